"""The promised rates: false alarms over many metrics, and caught changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, norm

from nvgbench.errors import InputError
from nvgbench.evaluation.simulation import simulated_draw
from nvgbench.gates.baseline import Baseline
from nvgbench.gates.rules import Rule, RuleSet, load_rules
from nvgbench.gates.schema import overall
from nvgbench.gates.selftest import Rate, recorded_draw, selftest
from nvgbench.gates.verdicts import evaluate_gates
from nvgbench.results.schema import RunRecord
from tests.helpers.gate_records import evaluation, metric


@given(st.lists(st.floats(-6, 6), min_size=1, max_size=20), st.floats(0.01, 0.49))
def test_failures_follow_benjamini_and_hochberg(moves: list[float], alpha: float) -> None:
    """The largest k with the k-th smallest p at most alpha k / n; those k failures stand."""
    half = 1.959963984540054  # a standard error of 1
    old = evaluation(*(metric(f"m{index}", 0.0, half) for index in range(len(moves))))
    new = evaluation(*(metric(f"m{index}", move, half) for index, move in enumerate(moves)))
    verdicts = evaluate_gates(RuleSet(rules=(Rule(metric="*"),), alpha=alpha), Baseline.of([old]), [new])
    p_values = [2 * norm.sf(abs(move), scale=2**0.5) for move in moves]
    ordered, n = sorted(p_values), len(p_values)
    scaled = [p * n / k for k, p in enumerate(ordered, start=1)]
    # Tolerance for rounding: the gate adds the two tails, and scipy divides before it multiplies.
    adjusted = [min(1.0, *scaled[ordered.index(p) :]) for p in p_values]
    assert [verdict.p_value for verdict in verdicts] == pytest.approx(adjusted, rel=1e-9)
    if any(abs(value - alpha) < 1e-9 for value in scaled):
        return  # a tie that rounding may decide either way
    supported = max((k for k, value in enumerate(scaled, start=1) if value <= alpha), default=0)
    assert sum(verdict.outcome == "fail" for verdict in verdicts) == supported


def test_unchanged_code_rarely_fails_and_a_planted_regression_does() -> None:
    """Twenty metrics with exact intervals and no margin, the hardest case for false alarms."""
    rng = np.random.default_rng(0)
    names = [f"metric-{index}" for index in range(20)]
    rules = RuleSet(rules=(Rule(metric="*"),))

    def draw(shift: float = 0.0) -> RunRecord:
        values = 10 + rng.normal(size=len(names))
        values[0] += shift
        return evaluation(*(metric(name, value, half=1.959964) for name, value in zip(names, values, strict=True)))

    def fails(new: RunRecord) -> bool:
        return overall(evaluate_gates(rules, Baseline.of([draw()]), [new])) == "fail"

    runs = 400
    alarms, caught = sum(fails(draw()) for _ in range(runs)), sum(fails(draw(shift=10.0)) for _ in range(runs))
    # 5 % promised: 400 runs of a gate that keeps it exceed this count with probability 1e-3.
    assert alarms <= binom.isf(1e-3, runs, 0.05)
    assert caught / runs >= 0.99


def test_simulated_evaluations_keep_the_promises() -> None:
    """Real metrics and intervals on simulated features: at most 5 % of 200 A/A pairs fail, and a loss of 5 % is caught."""
    rules = load_rules()
    draw = simulated_draw(seed=0)
    base = [Baseline.of([draw(seed, 0.0)]) for seed in range(20)]
    again = [draw(seed, 0.0) for seed in range(20, 30)]
    pairs = [overall(evaluate_gates(rules, old, [new])) for old in base for new in again]
    assert len(pairs) == 200
    assert pairs.count("fail") <= 0.05 * len(pairs)
    worse, better = ([evaluate_gates(rules, base[0], [draw(50 + seed, loss)]) for seed in range(5)] for loss in (0.05, -0.05))
    for verdicts, word in ((worse, "worse"), (better, "suspiciously good")):
        for found in verdicts:
            (distance,) = [verdict for verdict in found if verdict.metric == "FD[simulated]"]
            assert distance.outcome == "fail"
            assert distance.reason.startswith(word)


def _recorded() -> RunRecord:
    better = {"FD[x]": False, "IS[x]": True, "KD[x]": False, "PSNR": True}
    return evaluation(*(metric(name, 10.0, half=0.08, better=value) for name, value in better.items()))


def test_selftest_on_recorded_noise() -> None:
    done: list[int] = []
    rates = selftest(load_rules(), recorded_draw([_recorded()]), pairs=200, loss=0.05, seed=1, progress=done.append)
    by_name = {rate.name: rate for rate in rates}
    alarms, bare = by_name["false alarms, nothing changed"], by_name["the same without any margin"]
    assert alarms.share <= 0.05
    # Exact intervals: the bare rate is alpha up to the noise of 200 pairs.
    assert binom.ppf(1e-3, 200, 0.05) <= bare.count <= binom.isf(1e-3, 200, 0.05)
    assert by_name["losses of 5.0% caught"].share > 0.95
    assert by_name["gains of 5.0% caught"].share > 0.95
    assert not any(rate.broken for rate in rates)
    assert done == list(range(1, 201))


def test_recorded_noise_of_several_protocols() -> None:
    records = [
        evaluation(dataclasses.replace(metric("FID", value), protocol=protocol))
        for value, protocol in ((10.0, "nvgbench/2"), (20.0, "adm/1"))
    ]
    draw = recorded_draw(records)
    verdicts = evaluate_gates(RuleSet(rules=(Rule(metric="FID", absolute=1.0),)), Baseline.of([draw(0, 0.0)]), [draw(1, 0.5)])
    assert {verdict.metric: verdict.outcome for verdict in verdicts} == {"FID": "fail", "FID (adm)": "pass"}


def test_selftest_detects_a_gate_that_never_fails_and_one_that_often_fails() -> None:
    draw = recorded_draw([_recorded()])

    def rates(rules: RuleSet, draw=draw) -> list[Rate]:  # type: ignore[no-untyped-def]
        return selftest(rules, draw, pairs=60, loss=0.05, seed=0, progress=lambda done: None)

    lax = RuleSet(rules=(Rule(metric="*", relative=0.5),))
    assert [rate.broken for rate in rates(lax)] == [False, False, True, True]
    one_sided = RuleSet(rules=(Rule(metric="*", direction="worse"),))
    assert [rate.broken for rate in rates(one_sided)] == [False, False, False, False]

    def overconfident(seed: int, loss: float) -> RunRecord:
        """The same noise with intervals of a third of their width."""
        record = draw(seed, loss)
        narrow = [dataclasses.replace(m, interval=metric("", m.value, half=0.03).interval) for m in record.metrics]
        return dataclasses.replace(record, metrics=tuple(narrow))

    assert rates(RuleSet(rules=(Rule(metric="*"),)), overconfident)[0].broken


def test_broken_promises_allow_for_chance() -> None:
    promise = Rate(name="", count=10, pairs=200, promised=0.05)
    assert not promise.broken
    # Binomial: 18 or more of 200 at 5 % has a probability of 1 %, 19 or more of 0.6 %.
    assert [dataclasses.replace(promise, count=count).broken for count in (16, 21)] == [False, True]
    low, high = promise.interval
    assert (low, high) == pytest.approx((0.02738, 0.08958), abs=1e-5)  # Wilson, computed by hand


def test_selftest_refuses_unusable_input() -> None:
    with pytest.raises(InputError, match="at least 20 pairs"):
        selftest(load_rules(), recorded_draw([_recorded()]), pairs=5, loss=0.05, seed=0, progress=lambda done: None)
    with pytest.raises(InputError, match="has an interval"):
        recorded_draw([evaluation(metric("FD[x]", 1.0, half=None))])
