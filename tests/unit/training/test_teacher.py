"""Learning from a trained run: what is taken from it, what is trained, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import nvgbench as nb
from nvgbench.ablations.execute import _waves, train_jobs
from nvgbench.ablations.plan import plan_jobs
from nvgbench.ablations.study import Budget, Variant
from nvgbench.config.identity import hashed_part
from nvgbench.config.load import config_hash, load_preset, to_dict
from nvgbench.errors import InputError
from nvgbench.runs.folder import RunFolder
from tests.helpers.toy_study import settings

CPU = torch.device("cpu")
SMALL = {**settings(), "train.generator.steps": 3}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    nb.train("nvg-tiny", name="teacher", set=SMALL, runs=folder, device="cpu")
    return folder


def weights(folder: Path) -> dict[str, Tensor]:
    model: Any = RunFolder(folder).load_generator("cpu")
    return model.generator.state_dict()


def learn(runs: Path, name: str, seed: int = 0, **changes: Any) -> nb.Run:
    own = {"train.seed": seed} | {f"model.structure_{key}": value for key, value in changes.items()}
    return nb.train("nvg-tiny", name=name, set={**SMALL, **own}, runs=runs, device="cpu", teacher="teacher")


def test_a_student_keeps_the_content_and_follows_the_flow(runs: Path) -> None:
    learn(runs, "student", objective="flow-map").sample(n=1, flow_steps=1)
    taught, own = weights(runs / "teacher"), weights(runs / "student")
    assert all(torch.equal(own[key], taught[key]) for key in taught if key.startswith("content."))
    moved = (own["structure.head.linear.weight"] - taught["structure.head.linear.weight"]).abs().max()
    assert 0 < moved < 0.02  # three steps away from where it started
    student = RunFolder(runs / "student")
    assert student.origins["generator"]["run"] == "teacher"
    assert student.tokenizer_fingerprint() == RunFolder(runs / "teacher").tokenizer_fingerprint()
    assert student.config.train.generator.frozen == ("content.*",)


def test_the_structure_can_be_learned_from_data_on_the_same_content(runs: Path) -> None:
    learn(runs, "fresh", seed=1, objective="bernoulli", target="data")  # the teacher's seed would give its initial weights
    taught, own = weights(runs / "teacher"), weights(runs / "fresh")
    assert all(torch.equal(own[key], taught[key]) for key in taught if key.startswith("content."))
    assert (own["structure.head.linear.weight"] - taught["structure.head.linear.weight"]).abs().max() > 0.1


def test_what_cannot_be_taught_is_refused(runs: Path) -> None:
    with pytest.raises(InputError, match="'bernoulli' cannot follow a teacher's flow; use one of flow-map"):
        learn(runs, "refused", objective="bernoulli")
    with pytest.raises(InputError, match="do not learn from a teacher"):
        nb.train("ar-tiny", name="ar", set=SMALL, runs=runs, device="cpu", teacher="teacher")
    with pytest.raises(InputError, match="needs a trained run as `teacher=`"):
        own = {"model.structure_objective": "mean-flow", "model.structure_target": "teacher"}
        nb.train("nvg-tiny", name="alone", set={**SMALL, **own}, runs=runs, device="cpu", tokenizer="teacher")


def test_variants_share_a_teacher_and_are_found_again(tmp_path: Path) -> None:
    variants = [
        Variant(name="teacher"),
        Variant(name="student", settings={"train.generator.frozen": ["content.*"]}, teacher="teacher"),
    ]
    budget = Budget(seeds=1, images=4, samples=4, settings=SMALL)

    def plan() -> Any:
        return plan_jobs(variants, "nvg-tiny", budget, seeds=None, root=tmp_path, device=CPU)

    jobs = plan()
    assert [[job.variant for job in wave] for wave in _waves(jobs)] == [["teacher"], ["student"]]
    assert train_jobs(jobs, tmp_path, CPU) == {}
    assert [job.state for job in plan()] == ["finished", "finished"]
    assert RunFolder(jobs[1].folder).origins["generator"]["config_hash"] == RunFolder(jobs[0].folder).hash


@pytest.mark.parametrize("preset", ["nvg-tiny", "nvg-d16"])
def test_defaults_leave_hashes_alone(preset: str) -> None:
    plain = {"model.structure_objective": "flow", "model.structure_target": "data", "sampling.flow_solver": "euler"}
    config = load_preset(preset)
    assert config_hash(config) == config_hash(load_preset(preset, plain))
    assert "structure_objective" not in hashed_part(to_dict(config))["model"]
    assert config_hash(config) != config_hash(load_preset(preset, {"model.structure_objective": "mean-flow"}))
