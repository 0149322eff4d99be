"""The runner of studies: plan, shared tokenizers, resuming, failures, several processes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from nvgbench.ablations import registry
from nvgbench.ablations.execute import train_jobs
from nvgbench.ablations.runner import StudyPlan, StudyRequest, plan_study, run_study
from nvgbench.errors import InputError
from nvgbench.registry import Registry
from nvgbench.results.schema import RunRecord
from nvgbench.results.study import study_page
from nvgbench.runs.find import find_runs
from tests.helpers import toy_study
from tests.helpers.training_jobs import weights


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    built_in = {"toy": "tests.helpers.toy_study:Toy", "toy-again": "tests.helpers.toy_study:Toy"}
    monkeypatch.setattr(registry, "STUDIES", Registry("study", "nvgbench.studies", built_in))
    toy_study.MEASURED.clear()
    toy_study.FAILING.clear()


def plan(root: Path, **changes: Any) -> StudyPlan:
    request = {"study": "toy", "seeds": [0], "settings": toy_study.settings(), "budget": "quick"} | changes
    return plan_study(StudyRequest(root=root, device=torch.device("cpu"), **request))


def run(root: Path, **changes: Any) -> RunRecord:
    return run_study(plan(root, **changes))


def test_a_plan_trains_nothing_and_counts_a_shared_tokenizer_once(tmp_path: Path) -> None:
    made = plan(tmp_path, seeds=[0, 1])
    assert [(job.variant, job.seed, job.state) for job in made.jobs] == [
        ("low", 0, "new"), ("low", 1, "new"), ("high", 0, "new"), ("high", 1, "new"),
    ]  # fmt: skip
    costs = made.costs()
    assert [cost.shares_tokenizer for cost in costs] == [False, False, True, True]
    assert costs[0].flops is not None
    assert costs[2].flops is not None
    assert costs[0].flops > costs[2].flops > 0
    assert list(tmp_path.iterdir()) == []


def test_finished_runs_are_found_again_also_by_another_study(tmp_path: Path) -> None:
    record = run(tmp_path)
    assert {row["error"] for row in record.tables["runs"]} == {""}
    before = weights(tmp_path)
    assert len(toy_study.MEASURED) == 2
    again = plan(tmp_path, study="toy-again")
    assert {job.state for job in again.jobs} == {"finished"}
    assert {cost.flops for cost in again.costs()} == {0.0}
    page = study_page(run_study(again))
    assert page is not None
    assert [one.verdict for one in page.findings] == ["no difference"]  # from stored scores
    assert weights(tmp_path) == before
    assert len(toy_study.MEASURED) == 2  # rows are kept, too


def test_a_finished_run_elsewhere_in_the_folder_of_runs_counts(tmp_path: Path) -> None:
    run(tmp_path / "first")
    (tmp_path / "first" / "studies").rename(tmp_path / "by-hand")
    assert {job.folder.parent.name for job in plan(tmp_path).jobs} == {"by-hand"}


def test_variants_of_one_seed_share_the_tokenizer(tmp_path: Path) -> None:
    record = run(tmp_path, seeds=[0, 1])
    tokenizers = {(row["variant"], row["seed"]): row["tokenizer"] for row in record.tables["runs"]}
    assert tokenizers["low", 0] == tokenizers["high", 0]
    assert tokenizers["low", 1] == tokenizers["high", 1]
    assert tokenizers["low", 0] != tokenizers["low", 1]


def test_a_shared_tokenizer_is_the_one_that_the_run_would_have_trained(tmp_path: Path) -> None:
    shared = run(tmp_path / "shared").tables["runs"][1]
    (job,) = [job for job in plan(tmp_path / "alone").jobs if job.variant == "high"]
    train_jobs([job], tmp_path / "alone", torch.device("cpu"))
    assert job.run.folder.tokenizer_fingerprint() == shared["tokenizer"]


def test_a_failed_run_is_recorded_and_tried_again(tmp_path: Path) -> None:
    toy_study.FAILING.add("high")
    record = run(tmp_path)
    errors = {row["variant"]: row["error"] for row in record.tables["runs"]}
    assert errors == {"low": "", "high": "RuntimeError: no memory"}
    page = study_page(record)
    assert page is not None
    assert [one.verdict for one in page.findings] == ["inconclusive"]
    toy_study.FAILING.clear()
    toy_study.MEASURED.clear()
    page = study_page(run(tmp_path))
    assert page is not None
    assert [one.verdict for one in page.findings] == ["no difference"]
    assert len(toy_study.MEASURED) == 1  # the one that failed


def test_the_page_names_what_was_left_out(tmp_path: Path) -> None:
    page = study_page(run_study(dataclasses.replace(plan(tmp_path), left_out={"higher": "its weights are not here"})))
    assert page is not None
    assert page.limits == "Everything. Left out here: higher (its weights are not here)."


def test_a_training_that_fails_stops_no_other(tmp_path: Path) -> None:
    (bad,) = [job.folder for job in plan(tmp_path).jobs if job.variant == "high"]
    bad.mkdir(parents=True)
    (bad / "notes.txt").write_text("in the way")
    record = run(tmp_path)
    errors = {row["variant"]: row["error"] for row in record.tables["runs"]}
    assert errors["low"] == ""
    assert "is no run" in errors["high"]
    toy_study.FAILING.add("low")
    with pytest.raises(InputError, match="no run could be measured"):
        run(tmp_path, samples=9)


def test_several_processes_train_the_same_runs(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert train_jobs(made.jobs, tmp_path, torch.device("cpu"), workers=2) == {}
    assert {job.state for job in plan(tmp_path).jobs} == {"finished"}


def test_bad_requests_end_with_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'toy'"):
        plan(tmp_path, study="toi")
    with pytest.raises(InputError, match="did you mean 'quick'"):
        plan(tmp_path, budget="quik")
    with pytest.raises(InputError, match="no variant 'lo'; known: low, high"):
        plan(tmp_path, variants=["lo"])
    with pytest.raises(InputError, match="unknown key"):
        plan(tmp_path, settings={"train.generator.learning_rat": 1})
    run(tmp_path)
    with pytest.raises(InputError, match="trains its own runs"):
        plan(tmp_path, targets=find_runs(tmp_path))
