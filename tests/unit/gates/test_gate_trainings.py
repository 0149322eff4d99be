"""Trainings with several seeds are judged as a group, by the noise of training."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from nvgbench.gates.baseline import Baseline, read_baseline, update_baseline
from nvgbench.gates.noise import noise_of
from nvgbench.gates.rules import Rule, RuleSet
from nvgbench.gates.schema import Verdict, overall
from nvgbench.gates.selftest import recorded_draw, selftest
from nvgbench.gates.trainings import group_names
from nvgbench.gates.verdicts import evaluate_gates
from nvgbench.results.grouping import over_sampling_seeds, training_groups
from nvgbench.results.schema import RunRecord
from tests.helpers.gate_records import HERE, evaluation, metric
from tests.helpers.replicates import replicate

BARE = RuleSet(rules=(Rule(metric="*"),))


def trainings(*values: float, name: str = "m", **changes) -> list[RunRecord]:
    """Evaluations whose own intervals, of sampling noise only, are far narrower than training noise."""
    provenance = changes.pop("provenance", HERE)
    return [
        evaluation(
            metric("FD[x]", value, half=0.01),
            subject=f"{name}-seed{seed}",
            provenance={**provenance, **replicate(name, seed)},
            **changes,
        )
        for seed, value in enumerate(values)
    ]


def found(verdicts: list[Verdict]) -> list[tuple[str, str, str]]:
    return [(verdict.subject, verdict.metric, verdict.outcome) for verdict in verdicts]


def test_the_group_is_judged_in_place_of_its_members() -> None:
    old = Baseline.of([*trainings(10.0, 11.0, 12.0), evaluation(metric("FD[x]", 5.0), subject="alone", provenance=HERE)])
    alone = evaluation(metric("FD[x]", 5.0), subject="alone", provenance=HERE)
    # Each member moved by more than its sampling noise; the mean did not move.
    again = evaluate_gates(BARE, old, [*trainings(12.0, 10.0, 11.0), alone])
    assert found(again) == [("alone", "FD[x]", "pass"), ("m", "FD[x]", "pass")]
    worse = evaluate_gates(BARE, old, [*trainings(30.0, 31.0, 32.0), alone])
    assert found(worse) == [("alone", "FD[x]", "pass"), ("m", "FD[x]", "fail")]
    assert "the noise of training" in worse[-1].reason
    # Other seeds are another sample of the same model: none is missing or new.
    more = evaluate_gates(BARE, old, [*trainings(10.0, 11.0, 12.0, 11.0)[1:], alone])
    assert found(more) == [("alone", "FD[x]", "pass"), ("m", "FD[x]", "inconclusive")]
    assert more[-1].value == pytest.approx(34 / 3)


def test_scores_that_the_group_lacks_are_judged_member_by_member() -> None:
    extra = dataclasses.replace(trainings(10.0)[0], metrics=(metric("IS[x]", 3.0),))
    old = Baseline.of([*trainings(10.0, 11.0), extra])
    assert found(evaluate_gates(BARE, old, [*trainings(10.0, 11.0), extra])) == [
        ("m-seed0", "IS[x]", "pass"),
        ("m", "FD[x]", "pass"),
    ]
    (single,) = evaluate_gates(BARE, old, trainings(10.0), whole=False)[:1]
    assert (single.subject, single.metric, single.outcome) == ("m-seed0", "FD[x]", "pass")
    # A single training is no group: that of the baseline is missing.
    missed = evaluate_gates(BARE, old, [*trainings(10.0), extra])
    assert ("m", "FD[x]", "inconclusive") in found(missed)


def test_a_run_may_have_the_groups_name() -> None:
    own = evaluation(metric("FD[x]", 5.0), subject="m", provenance=HERE)
    records = [own, *trainings(10.0, 11.0)]
    of = replicate("m", 0)["replicate"]["of"]
    names = ("m", f"m ({of[:8]})")
    assert found(evaluate_gates(BARE, Baseline.of(records), records)) == [(name, "FD[x]", "pass") for name in names]
    # A run of that name on one side changes the group's name on both.
    again = evaluate_gates(BARE, Baseline.of(records), trainings(10.0, 11.0))
    assert (names[1], "FD[x]", "pass") in found(again)


def test_a_baseline_keeps_members_and_names_groups(tmp_path: Path) -> None:
    there = {**HERE, "machine": {"cpu": "D", "cores": 2}}
    file = tmp_path / "baseline.json"
    written = update_baseline(file, [*trainings(10.0, 11.0), *trainings(20.0, 21.0, provenance=there)])
    assert written.subjects == ["m-seed0", "m-seed1"]
    assert group_names(written) == ["m"]
    # Renewing one member renews the mean.
    update_baseline(file, trainings(13.0))
    for new, mean in ((trainings(12.0, 12.0), 12.0), (trainings(20.5, 20.5, provenance=there), 20.5)):
        (verdict,) = evaluate_gates(RuleSet(rules=(Rule(metric="*", absolute=1e-9),)), read_baseline(file), new)
        assert (verdict.subject, verdict.baseline) == ("m", mean)


def test_noise_of_a_few_trainings_follows_students_t() -> None:
    """Welch's t-test, by scipy."""
    a, b = (10.0, 11.0, 12.5), (13.0, 13.5, 15.0, 14.0)
    (verdict,) = evaluate_gates(BARE, Baseline.of(trainings(*a)), trainings(*b))
    assert verdict.p_value == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)
    (group,) = training_groups(trainings(1.0, 1.0))
    assert group.metrics[0].interval is None  # equal repetitions say nothing about further ones
    assert noise_of(group.metrics[0]) is None


def test_false_alarms_of_groups_keep_the_promise() -> None:
    """Twelve metrics, three trainings per side: with normal tails, false alarms would be far more frequent than 5 %."""
    rng = np.random.default_rng(0)

    def draw() -> list[RunRecord]:
        return [
            evaluation(
                *(metric(f"s{k}", v, half=0.01) for k, v in enumerate(10 + rng.normal(size=12))),
                subject=f"m-seed{seed}",
                provenance=replicate("m", seed),
            )
            for seed in range(3)
        ]

    runs = 100
    alarms = sum(overall(evaluate_gates(BARE, Baseline.of(draw()), draw())) == "fail" for _ in range(runs))
    assert alarms <= stats.binom.isf(1e-3, runs, 0.05)


def test_selftest_on_means_over_sampling_seeds() -> None:
    records = [
        evaluation(metric("FD[x]", value), provenance={"seeds": {"sampling": seed}})
        for seed, value in enumerate((10, 10.1, 9.9))
    ]
    rates = selftest(
        BARE, recorded_draw([over_sampling_seeds(records)]), pairs=100, loss=0.5, seed=0, progress=lambda done: None
    )
    assert not any(rate.broken for rate in rates)
