"""The studies' designs and answers on made-up rows, and the sampling studies on a run trained for a second."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from nvgbench.ablations.components import Components
from nvgbench.ablations.cost import fitted
from nvgbench.ablations.levels import Levels
from nvgbench.ablations.plan import plan_jobs
from nvgbench.ablations.registry import STUDIES, get_study
from nvgbench.ablations.runner import StudyRequest, plan_study, run_study
from nvgbench.ablations.sampling import sweeps
from nvgbench.ablations.scoring import sampled_scores
from nvgbench.ablations.seeds import Seeds, variance_row
from nvgbench.ablations.study import BUDGETS, Context, StudiedRun
from nvgbench.ablations.transfer import Transfer
from nvgbench.config.load import load_preset
from nvgbench.errors import InputError
from nvgbench.nvg import alignment_target
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.reporting.studies import study_sections
from nvgbench.results.schema import RunRecord
from nvgbench.results.study import StudyPage, study_page
from nvgbench.runs.folder import RunFolder
from tests.helpers.pooled_features import Pooled
from tests.helpers.report_records import provenance
from tests.helpers.training_jobs import train

CPU = torch.device("cpu")


def rows(values: dict[str, list[float]], **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "variant": name,
            "seed": seed,
            "run": f"{name}-{seed}",
            "metric": "FD[x]",
            "value": value,
            "higher_is_better": False,
            **more,
        }
        for name, per_seed in values.items()
        for seed, value in enumerate(per_seed)
    ]


def test_variants_that_cannot_be_trained_here_are_left_out_unless_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(model: NvgModelConfig) -> Path:
        if model.alignment == "dinov2":
            raise InputError("no weights of DINOv2")
        return tmp_path

    monkeypatch.setattr(alignment_target, "_find_file", find)
    request = StudyRequest(study="components", root=tmp_path, device=CPU, budget="quick")
    plan = plan_study(request)
    planned = {job.variant for job in plan.jobs}
    assert "alignment, Lite0" in planned
    assert "alignment, DINOv2" not in planned
    assert plan.left_out == {"alignment, DINOv2": "no weights of DINOv2"}
    named = plan_study(dataclasses.replace(request, variants=("alignment, DINOv2",)))
    assert {job.variant for job in named.jobs} == {"as published", "alignment, DINOv2"}
    assert not named.left_out


@pytest.mark.parametrize("name", STUDIES.names())
def test_every_study_says_what_it_asks_varies_reports_and_leaves_open(name: str) -> None:
    study = get_study(name)
    assert study.name == name
    assert study.question.endswith("?")
    assert study.varies
    assert study.reports
    assert study.limits.endswith(".")


@pytest.mark.parametrize("name", [name for name in STUDIES.names() if get_study(name).variants("nvg-tiny")])
def test_every_design_can_be_configured_on_the_tiny_presets(name: str, tmp_path: Path) -> None:
    study = get_study(name)
    jobs = plan_jobs(study.variants("nvg-tiny"), "nvg-tiny", BUDGETS["quick"], seeds=None, root=tmp_path, device=CPU)
    assert len({job.folder for job in jobs}) == len(jobs) == len(study.variants("nvg-tiny"))
    assert len({one.name for one in study.variants("nvg-tiny")}) == len(jobs)


def test_table_3_with_one_seed_is_inconclusive() -> None:
    names = [variant.name for variant in Components().variants("nvg-tiny")]
    found = Components().conclude({"scores": rows({name: [float(number)] for number, name in enumerate(names)})})
    assert {one.verdict for one in found.findings} == {"inconclusive"}


def test_a_failed_baseline_is_not_replaced() -> None:
    found = Components().conclude({"scores": rows({"pure noise": [1.0, 2.0], "no structure RoPE": [3.0, 5.0]})})
    assert [(one.verdict, one.n) for one in found.findings] == [("inconclusive", 0)] * 2
    assert found.tables["differences"] == []


def test_variants_of_table_3_share_their_tokenizer_and_group_sizes_do_not(tmp_path: Path) -> None:
    def tokenizers(study: Any) -> int:
        variants = study.variants("nvg-tiny")
        jobs = plan_jobs(variants, "nvg-tiny", BUDGETS["quick"], seeds=[0], root=tmp_path, device=CPU)
        return len({job.tokenizer for job in jobs})

    assert tokenizers(Components()) == 1
    assert tokenizers(Levels()) == len(Levels().variants("nvg-tiny")) == 4


def test_levels_are_those_of_the_grid() -> None:
    names = [variant.name for variant in Levels().variants("nvg-tiny")]
    assert names == ["1-2-4-8-16", "1-4-16", "1-2-16", "1-8-16"]  # by 16 there would be no inner stage
    assert [variant.name for variant in Levels().variants("nvg-d12")] == [
        "1-2-…-256", "1-4-16-64-256", "1-16-256", "1-2-256", "1-128-256",
    ]  # fmt: skip


def test_studies_of_trained_variants_share_their_baseline(tmp_path: Path) -> None:
    """So that one finished training serves all of them, at any budget."""
    for budget in ("quick", "standard"):
        baselines = set()
        for study, name in (
            (Components(), "as published"), (Levels(), "1-2-4-8-16"), (Seeds(), "the model"), (Transfer(), "NVG, shapes"),
        ):  # fmt: skip
            variants = [variant for variant in study.variants("nvg-tiny") if variant.name == name]
            (job,) = plan_jobs(variants, "nvg-tiny", BUDGETS[budget], seeds=[0], root=tmp_path, device=CPU)
            baselines.add((job.folder, job.tokenizer))
        assert len(baselines) == 1


@pytest.mark.parametrize("study", [Components(), Levels(), Transfer()])
def test_equal_scores_show_no_difference(study: Any) -> None:
    """A metric that is constant, or one run under every name."""
    names = [variant.name for variant in (*study.variants("nvg-tiny"), *study.probes())]
    for values in ([7.0] * 3, [1.0, 2.0, 4.0]):
        found = study.conclude({"scores": rows(dict.fromkeys(names, values))})
        assert {one.verdict for one in found.findings} == {"no difference"}


def test_given_structure_is_compared_with_the_generated_one_of_the_same_training() -> None:
    values = {"as published": [5.5, 6.5], "given structure": [4.0, 5.25]}
    (found,) = Components().conclude({"scores": rows(values)}).findings
    assert (found.subject, found.value) == ("given structure", pytest.approx(-1.375))


def test_transfer_takes_the_data_sources_that_are_given(tmp_path: Path) -> None:
    sources = ["shapes", "imagefolder:data/birds", "npz:a/cars.npz", "imagefolder:b/cars.npz"]
    plan = plan_study(StudyRequest(study="transfer", root=tmp_path, device=CPU, budget="quick", sources=sources))
    assert [job.variant for job in plan.jobs][::2] == [
        "VAR, shapes", "VAR, birds", "VAR, npz:a/cars.npz", "VAR, imagefolder:b/cars.npz",
    ]  # fmt: skip
    assert [job.config.data.source for job in plan.jobs][1::2] == sources
    with pytest.raises(InputError, match="has one data source, got 4"):
        plan_study(StudyRequest(study="levels", root=tmp_path, device=CPU, sources=sources))


def test_families_are_compared_within_a_data_set() -> None:
    values = {"VAR, shapes": [5.0, 6.0], "NVG, shapes": [3.0, 4.5], "NVG, cifar10": [9.0, 9.5], "VAR, cifar10": [7.0, 7.25]}
    found = Transfer().conclude({"scores": rows(values)})
    assert {one.subject: one.value for one in found.findings} == pytest.approx({"NVG, shapes": -1.75, "NVG, cifar10": 2.125})


def test_transfer_draws_a_row_per_data_set() -> None:
    values = {"VAR, shapes": [5.0, 6.0], "NVG, shapes": [3.0, 4.5], "VAR, cifar10": [7.0], "NVG, cifar10": [9.0]}
    found = Transfer().conclude({"scores": rows(values)})
    page = StudyPage(name="transfer", question="?", charts=tuple(found.charts), tables=("differences",))
    record = RunRecord(kind="ablation", subject="x", tables=dict(found.tables), provenance=provenance(study=page.as_tree()))
    ((figure,),) = [section.figures for section in study_sections([record])]
    (svg,) = figure.svgs
    # t(1 - 0.025 / 2) of one degree of freedom is 25.45, and the standard error of -2 and -1.5 is 0.25.
    assert "NVG minus VAR in FD[x]: shapes -1.75 [-8.11, 4.61]; cifar10 2." in svg


def test_variances_are_split_as_an_analysis_of_variance_does() -> None:
    """Known components, 400 trainings of 3 samplings: their standard errors are below 8 % and 5 %."""
    rng = np.random.default_rng(0)
    values_NM = 10 + 2 * rng.standard_normal((400, 1)) + rng.standard_normal((400, 3))
    panel = [{"seed": seed, "value": value} for seed, one in enumerate(values_NM) for value in one]
    found = variance_row(panel, "FD")
    assert found["between trainings"] == pytest.approx(4, rel=0.25)
    assert found["within training"] == pytest.approx(1, rel=0.15)
    assert found["training share"] == pytest.approx(0.8, abs=0.06)
    # The normal approximation of the smallest difference, at 798 degrees of freedom.
    assert found["detectable"] == pytest.approx((1.96 + 0.842) * np.sqrt(2 / 400 * (4 + 1 / 3)), rel=0.1)


def test_the_panel_agrees_with_sums_of_squares() -> None:
    """Rows in any order. The table of the one-way analysis of variance with random effects, and the power of the t test."""
    trainings, samplings = 4, 3
    values_NM = np.random.default_rng(3).standard_normal((trainings, samplings)) + np.array([[0.0], [2.0], [1.0], [5.0]])
    panel = [{"seed": 7 * n, "value": values_NM[n, m]} for m in range(samplings) for n in reversed(range(trainings))]
    found = variance_row(panel, "FD")
    total, means_N = values_NM.sum() / 12, values_NM.sum(1) / samplings
    of_trainings = samplings * sum((mean - total) ** 2 for mean in means_N) / (trainings - 1)
    of_samplings = sum((values_NM[n, m] - means_N[n]) ** 2 for n in range(4) for m in range(3)) / (trainings * (samplings - 1))
    between = (of_trainings - of_samplings) / samplings
    assert found["within training"] == pytest.approx(of_samplings)
    assert found["between trainings"] == pytest.approx(between)
    assert found["training share"] == pytest.approx(between / (between + of_samplings))
    error = np.sqrt(2 / trainings * (between + of_samplings / samplings))
    assert found["detectable"] == pytest.approx((stats.t.ppf(0.975, 6) + stats.t.ppf(0.8, 6)) * error)
    # A two-sided t test of two such models finds that difference in 80 % of cases; the formula is an approximation.
    power = stats.nct.sf(stats.t.ppf(0.975, 6), 6, found["detectable"] / error)
    assert power == pytest.approx(0.8, abs=0.02)


def test_a_training_that_varies_less_than_its_samplings_has_no_share() -> None:
    panel = [{"seed": seed, "value": value} for seed in (0, 1) for value in (1.0 + 0.01 * seed, 3.0)]
    found = variance_row(panel, "FD")
    assert (found["between trainings"], found["training share"]) == (0.0, 0.0)
    # The smaller spread that was seen between the means of trainings would promise too much.
    error = np.sqrt(2 / 2 * found["within training"] / 2)
    assert found["detectable"] == pytest.approx((stats.t.ppf(0.975, 2) + stats.t.ppf(0.8, 2)) * error)


def test_one_training_or_a_constant_score_has_no_split() -> None:
    def answer(values: list[list[float]]) -> Any:
        panel = [
            {"variant": "the model", "seed": seed, "run": f"r{seed}", "sampling": number, "metric": "FD", "value": value}
            for seed, one in enumerate(values)
            for number, value in enumerate(one)
        ]
        (finding,) = Seeds().conclude({"scores": panel}).findings
        return finding

    assert answer([[1.0, 2.0, 3.0]]).verdict == "inconclusive"
    assert answer([[2.0] * 3] * 3).verdict == "no difference"
    assert answer([[1.0, 1.1, 1.2], [3.0, 3.1, 3.2]]).verdict == "measured"


def test_sweeps_change_one_setting_of_each_family_at_a_time() -> None:
    for preset, names in {
        "nvg-tiny": {
            "content_guidance",
            "structure_guidance",
            "top_p",
            "top_p falling",
            "top_p rising",
            "temperature",
            "gumbel",
        },
        "var-tiny": {"guidance", "top_p"},
        "ar-tiny": {"guidance", "top_p", "temperature"},
    }.items():
        sampling = load_preset(preset).sampling
        found = list(sweeps(sampling))
        assert found[0] == ("", 1.0, {})
        assert {setting for setting, _, _ in found[1:]} == names
        assert all(set(changes) == {setting.split()[0]} for setting, _, changes in found[1:])
        guidance = {strength: changes for setting, strength, changes in found if setting.endswith("guidance")}
        assert all(np.allclose(value, getattr(sampling, name)) for name, value in guidance[1.0].items())


def test_growth_is_fitted_by_its_exponent() -> None:
    rows = [{"value": value, "seconds": 0.2 * value**1.5} for value in (1, 4, 16)]
    found = fitted(rows)
    assert found["exponent"] == pytest.approx(1.5)
    assert (found["seconds from"], found["seconds to"]) == pytest.approx((0.2, 12.8))


def test_parts_of_nvg_are_measured_and_shared_with_other_studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.ablations.scoring.open_extractor", lambda *_: Pooled())
    monkeypatch.setattr("nvgbench.evaluation.scorer.open_extractor", lambda *_: Pooled())
    train(tmp_path / "nvg", "nvg", "data.eval_images=16", "train.steps=2")
    run = RunFolder(tmp_path / "nvg")
    context = Context(root=tmp_path, device=CPU, images=16, samples=16)
    tables = Components().measure(StudiedRun("as published", 0, run), context)
    firsts = {row.get("variant", ""): row for row in reversed(tables["scores"])}
    assert set(firsts) == {"", "given structure"}
    assert {row["metric"] for row in firsts.values()} == {"FD[pooled]"}
    # The evaluation and the probe draw the same samples and score them alike; only the structure differs.
    own = sampled_scores(run, context, seed=0, split="eval")[0]["value"]
    assert firsts[""]["value"] == pytest.approx(own, rel=1e-6)
    assert firsts["given structure"]["value"] != pytest.approx(own, rel=1e-6)
    (cost,) = tables["costs"]
    assert (cost["stages"], cost["tokens"]) == (5, 31)
    assert cost["training_flops"] > 0
    assert cost["sampling_flops"] > 0
    assert cost["generator_seconds"] > 0
    records = run.records_path.read_text()
    Levels().measure(StudiedRun("1-2-4-8-16", 0, run), context)
    assert run.records_path.read_text() == records  # not evaluated again


def test_the_sampling_studies_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.ablations.scoring.open_extractor", lambda *_: Pooled())
    train(tmp_path / "ar", "ar", "data.eval_images=16")
    targets = [RunFolder(tmp_path / "ar")]
    before = targets[0].records_path.read_text()
    request = StudyRequest(study="sampling", root=tmp_path, device=CPU, targets=targets, samples=16)
    record = run_study(plan_study(request))
    assert targets[0].records_path.read_text() == before  # a sweep is no evaluation of the run
    assert {row["setting"] for row in record.tables["sweep"]} == {"", "guidance", "top_p", "temperature"}
    page = study_page(record)
    assert page is not None
    assert [finding.subject for finding in page.findings] == ["ar"] * 4
    assert "on held-out images" in page.findings[-1].text
    assert {row["settings"] for row in record.tables["at_best"]} == {"own", "best guidance"}
    cost = run_study(plan_study(StudyRequest(study="cost", root=tmp_path, device=CPU, targets=targets)))
    batches = [row for row in cost.tables["costs"] if row["setting"] == "batch"]
    assert [row["value"] for row in batches] == [1, 4, 16]
    assert {row["setting"] for row in cost.tables["growth"]} == {"batch", "grid", "depth"}
    assert all(row["exponent of FLOPs"] > 0 for row in cost.tables["growth"])
    assert sum(row["share of FLOPs"] or 0 for row in cost.tables["parts"]) == pytest.approx(1)
    assert {(row["phase"], row["not_finite"]) for row in cost.tables["stability"]} == {("tokenizer", 0), ("generator", 0)}
    assert all(0 < row["seconds_low"] <= row["seconds"] <= row["seconds_high"] for row in cost.tables["costs"])
    assert all(row["flops"] > 0 and row["peak_memory_cuda"] is None for row in cost.tables["costs"])
    strength = [row for row in record.tables["sweep"] if (row["setting"], row["position"]) == ("guidance", 1.0)]
    own = [row for row in record.tables["sweep"] if row["own"]]
    assert [row["value"] for row in strength] == [row["value"] for row in own]
