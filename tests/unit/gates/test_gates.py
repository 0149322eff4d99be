from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from nvgbench.errors import InputError
from nvgbench.gates.baseline import Baseline
from nvgbench.gates.rules import Rule, RuleSet, load_rules
from nvgbench.gates.schema import Verdict, overall
from nvgbench.gates.verdicts import evaluate_gates
from nvgbench.results.schema import RunRecord
from nvgbench.types import Measurement, MetricValue
from tests.helpers.gate_records import HERE, evaluation, metric, profile

RULES = load_rules()


def gate(old: list[RunRecord], new: list[RunRecord], rules: RuleSet = RULES) -> list[Verdict]:
    return evaluate_gates(rules, Baseline.of(old), new)


def judge(old: MetricValue, new: MetricValue, *rules: Rule) -> Verdict:
    (verdict,) = gate([evaluation(old)], [evaluation(new)], RuleSet(rules=rules) if rules else RULES)
    return verdict


@pytest.mark.parametrize(
    ("new", "outcome", "word"),
    [
        (metric("FD[x]", 10.0), "pass", "within"),
        (metric("FD[x]", 10.1), "pass", "within"),
        (metric("FD[x]", 12.0), "fail", "worse"),
        (metric("FD[x]", 8.0), "fail", "suspiciously good"),
        (metric("FD[x]", 10.5, half=2.0), "inconclusive", "noise could explain"),
        (metric("FD[x]", 12.0, half=None), "inconclusive", "noise is unknown without intervals"),
        (metric("FD[x]", None), "inconclusive", "no value"),
    ],
)
def test_interval_verdicts(new: MetricValue, outcome: str, word: str) -> None:
    verdict = judge(metric("FD[x]", 10.0), new)
    assert verdict.outcome == outcome
    assert word in verdict.reason


def test_intervals_without_width_decide_nothing() -> None:
    """A bootstrap of equal numbers: that none of 500 samples is near a reference image says little about the next 500."""
    old, new = metric("density[x]", 0.0, half=0.0, better=True), metric("density[x]", 0.002, half=0.0, better=True)
    assert judge(old, new).outcome == "inconclusive"
    assert judge(old, old).outcome == "pass"


def test_tolerance_rules_need_no_interval_and_have_directions() -> None:
    rule = Rule(metric="*", kind="tolerance", absolute=0.5)
    one_sided = dataclasses.replace(rule, direction="worse")
    old = metric("precision[x]", 5.0, None, better=True)
    assert judge(old, metric("precision[x]", 4.4, None, better=True), rule).reason.startswith("worse")
    assert judge(old, metric("precision[x]", 5.6, None, better=True), rule).reason.startswith("suspiciously good")
    assert judge(old, metric("precision[x]", 5.6, None, better=True), one_sided).outcome == "pass"
    assert judge(old, metric("precision[x]", 4.4, None, better=True), one_sided).outcome == "fail"
    assert judge(old, metric("precision[x]", 5.5, None, better=True), rule).outcome == "pass"
    neither = metric("codebook-use", 5.0, None, better=None)
    assert judge(neither, metric("codebook-use", 5.6, None, better=None), one_sided).reason.startswith("changed")
    advisory = judge(old, metric("precision[x]", 1.0, None, better=True), dataclasses.replace(rule, severity="advisory"))
    assert (advisory.outcome, overall([advisory])) == ("fail", "pass")


def test_exact_rules_fail_at_any_change() -> None:
    rule = Rule(metric="*", kind="exact")
    old = metric("codebook-use", 0.5, None)
    assert judge(old, old, rule).outcome == "pass"
    assert judge(old, metric("codebook-use", 0.5 + 1e-15, None), rule).outcome == "fail"


def test_one_sided_interval_rules_ignore_gains() -> None:
    rule = Rule(metric="*", direction="worse")
    gain, loss = (
        judge(metric("FD[x]", 10.0), metric("FD[x]", 5.0), rule),
        judge(metric("FD[x]", 10.0), metric("FD[x]", 15.0), rule),
    )
    assert (gain.outcome, loss.outcome) == ("pass", "fail")
    assert gain.p_value == pytest.approx(1.0)
    assert loss.p_value == pytest.approx(0.0)


def test_p_values_assume_the_largest_allowed_change() -> None:
    """Of a change c and a margin m in standard errors s: P(|N(m, s)| >= |c|), by scipy."""
    from scipy.stats import norm

    old, new = metric("FD[x]", 10.0, half=1.959963984540054), metric("FD[x]", 12.0, half=1.959963984540054)
    verdict = judge(old, new, Rule(metric="*", absolute=0.5))
    deviation = 2**0.5
    expected = norm.sf(2.0, 0.5, deviation) + norm.cdf(-2.0, 0.5, deviation)
    assert verdict.p_value == pytest.approx(expected, rel=1e-9)


def test_missing_and_new_metrics() -> None:
    old, new = evaluation(metric("FD[x]", 1.0), metric("IS[x]", 2.0)), evaluation(metric("FD[x]", 1.0), metric("KD[x]", 1.0))
    verdicts = gate([old], [new, evaluation(metric("FD[x]", 1.0), subject="another")])
    assert [(v.subject, v.metric, v.outcome, v.blocking) for v in verdicts] == [
        ("model", "FD[x]", "pass", True),
        ("model", "IS[x]", "inconclusive", True),
        ("model", "KD[x]", "inconclusive", False),
        ("another", "all", "inconclusive", False),
    ]
    assert overall(verdicts) == "inconclusive"
    with pytest.raises(InputError, match="no record has a subject of the baseline, which has model"):
        gate([evaluation(metric("FD[x]", 1.0))], [evaluation(metric("FD[x]", 1.0), subject="other")])
    with pytest.raises(InputError, match="no rule fits"):
        gate([old], [new], RuleSet(rules=(Rule(metric="LPIPS"),)))


@pytest.mark.parametrize("change", [{"n": 999}, {"n_reference": 1}, {"protocol": "nvgbench/0"}])
def test_unequal_scores_are_refused(change: dict[str, Any]) -> None:
    old = metric("FD[x]", 1.0)
    with pytest.raises(InputError, match="not comparable"):
        gate([evaluation(old)], [evaluation(dataclasses.replace(old, **change))])


def by_rules(value: float, protocol: str) -> RunRecord:
    return evaluation(dataclasses.replace(metric("FID", value), protocol=protocol))


def test_every_protocol_has_its_own_verdict() -> None:
    old, new = [by_rules(10.0, "nvgbench/2"), by_rules(20.0, "adm/1")], [by_rules(30.0, "adm/1"), by_rules(10.0, "nvgbench/2")]
    found = {verdict.metric: (verdict.baseline, verdict.value, verdict.outcome) for verdict in gate(old, new)}
    assert found == {"FID": (10.0, 10.0, "pass"), "FID (adm)": (20.0, 30.0, "fail")}
    # A protocol that only one side has is not compared with the other's.
    left, right = gate(old[:1], new[:1])
    assert (left.metric, left.value, left.reason, left.blocking) == ("FID", None, "not measured this time", True)
    assert (right.metric, right.baseline, right.blocking) == ("FID (adm)", None, False)
    with pytest.raises(InputError, match=r"FID \(adm\) of .* protocol differs: adm/1 and adm/2"):
        gate(old, [by_rules(20.0, "adm/2")])


def test_rules_apply_to_all_protocols_or_to_one() -> None:
    old, new = [by_rules(10.0, "nvgbench/2"), by_rules(10.0, "adm/1")], [by_rules(14.0, "nvgbench/2"), by_rules(14.0, "adm/1")]
    loose = Rule(metric="FID (adm)", absolute=5.0)

    def outcomes(*rules: Rule) -> dict[str, str]:
        return {verdict.metric: verdict.outcome for verdict in gate(old, new, RuleSet(rules=rules))}

    assert outcomes(Rule(metric="FID")) == {"FID": "fail", "FID (adm)": "fail"}
    assert outcomes(loose) == {"FID (adm)": "pass"}
    assert outcomes(loose, Rule(metric="FID")) == {"FID": "fail", "FID (adm)": "pass"}
    assert outcomes(Rule(metric="* (adm)")) == {"FID (adm)": "fail"}


def test_another_extractor_is_refused() -> None:
    old, new = (evaluation(metric("FD[x]", 1.0), provenance={"extractor": {"fingerprint": mark}}) for mark in "ab")
    with pytest.raises(InputError, match="extractor differs: a and b"):
        gate([old], [new])


class TestEnvironments:
    def test_another_environment_is_undecided_with_a_reason(self) -> None:
        old = evaluation(metric("FD[x]", 10.0), provenance=HERE)
        there = {**HERE, "libraries": {"torch": "9.9", "numpy": "2.0"}}
        (verdict,) = gate([old], [evaluation(metric("FD[x]", 20.0), provenance=there)])
        assert (verdict.outcome, verdict.blocking) == ("inconclusive", True)
        assert verdict.reason == "no baseline for this environment (torch 2.0 there, 9.9 here); an update adds one"
        lenient = RuleSet(rules=(Rule(metric="*", new_environment="advisory"),))
        (verdict,) = gate([old], [evaluation(metric("FD[x]", 20.0), provenance=there)], lenient)
        assert (verdict.outcome, verdict.blocking, overall([verdict])) == ("inconclusive", False, "pass")
        (verdict,) = gate([old], [evaluation(metric("FD[x]", 20.0), provenance=HERE)], lenient)
        assert overall([verdict]) == "fail"

    def test_each_environment_is_compared_with_its_own(self) -> None:
        there = {**HERE, "machine": {"cpu": "D", "cores": 2}}
        both = [evaluation(metric("FD[x]", 10.0), provenance=HERE), evaluation(metric("FD[x]", 20.0), provenance=there)]
        for old in both:
            assert [v.outcome for v in gate(both, [old])] == ["pass"]
        swapped = dataclasses.replace(both[0], provenance=there)
        assert [v.outcome for v in gate(both, [swapped])] == ["fail"]

    def test_the_device_is_part_of_the_environment(self) -> None:
        old = evaluation(metric("FD[x]", 10.0), provenance={**HERE, "device": "cpu"})
        (verdict,) = gate(
            [old], [evaluation(metric("FD[x]", 10.0), provenance={**HERE, "device": {"device": "cuda:1", "gpu": "G"}})]
        )
        assert "device cpu there, cuda here; gpu not recorded there, G here" in verdict.reason


def test_measurements_are_compared_within_one_environment() -> None:
    def outcomes(new: RunRecord) -> dict[str, str]:
        return {v.metric: v.outcome for v in gate([profile((1.0, 1.1, 0.9))], [new])}

    assert outcomes(profile((1.0, 1.05, 0.95))) == {"latency (batch 1)": "pass", "flops (batch 1)": "pass"}
    assert outcomes(profile((2.0, 2.1, 1.9)))["latency (batch 1)"] == "fail"
    assert outcomes(profile((0.2, 0.2, 0.2)))["latency (batch 1)"] == "pass"
    assert outcomes(profile((2.0, 2.0), gpu="other")) == {"latency (batch 1)": "inconclusive", "flops (batch 1)": "pass"}
    assert outcomes(profile((1.0,), flops=2e9))["flops (batch 1)"] == "fail"
    assert outcomes(profile(()))["latency (batch 1)"] == "inconclusive"


def test_interval_rules_compare_repetitions_of_measurements() -> None:
    rules = RuleSet(rules=(Rule(metric="latency", relative=0.1),))
    old = profile((1.0, 1.1, 0.9, 1.6, 1.5))
    slower = [(1.3, 1.4, 1.5, 1.3), (3.0, 3.1, 3.2, 3.3), (3.0, 3.1, 3.2), (3.0,)]
    verdicts = [verdict for seconds in slower for verdict in gate([old], [profile(seconds)], rules)]
    assert [verdict.outcome for verdict in verdicts] == ["inconclusive", "fail", "inconclusive", "inconclusive"]
    assert "more repetitions would decide" in verdicts[0].reason
    assert verdicts[1].reason == "worse: beyond the margin and the noise of the repetitions"
    assert verdicts[3].reason.startswith("beyond the margin, but 5 and 1 repetitions cannot tell noise from change")
    (single,) = gate([profile((1.0,))], [profile((2.0,))], rules)
    assert (single.outcome, single.p_value) == ("inconclusive", None)


@pytest.mark.parametrize(("better", "worse"), [(False, "greater"), (True, "less")])
def test_p_values_of_repetitions_are_rank_sums_at_the_margin(better: bool, worse: str) -> None:
    from scipy.stats import mannwhitneyu

    def measured(samples: tuple[float, ...]) -> RunRecord:
        rate = Measurement(name="rate", unit="", samples=samples, higher_is_better=better)
        return RunRecord(kind="profile", subject="model", measurements=(rate,))

    old, new, margin = (1.0, 1.1, 0.9, 1.6, 1.5), (1.35, 1.75, 1.55, 2.1, 1.95), 0.25
    sides = {
        side: mannwhitneyu(new, [x + sign * margin for x in old], alternative=side, method="exact").pvalue
        for side, sign in (("greater", 1), ("less", -1))
    }
    for direction, expected in (("both", 2 * min(sides.values())), ("worse", sides[worse])):
        rule = Rule(metric="rate", absolute=margin, direction=direction)
        (verdict,) = gate([measured(old)], [measured(new)], RuleSet(rules=(rule,)))
        assert verdict.p_value == pytest.approx(expected)


@pytest.mark.parametrize("count", [3, 5, 10])
def test_repetitions_of_unchanged_code_rarely_fail(count: int) -> None:
    """Five measurements, skewed like times, and a score, all without margins: at most 5 % of A/A pairs fail."""
    rng = np.random.default_rng(count)
    rules = RuleSet(rules=(Rule(metric="*"),))

    def draw(slower: float = 1.0) -> list[RunRecord]:
        times = [
            Measurement(name=f"time-{index}", unit="s", samples=tuple(slower * (1 + rng.exponential(0.1, size=count))))
            for index in range(5)
        ]
        score = evaluation(metric("FD[x]", 10 + rng.normal(), half=1.959964))
        return [RunRecord(kind="profile", subject="model", measurements=tuple(times)), score]

    runs = 200
    alarms = sum(overall(gate(draw(), draw(), rules)) == "fail" for _ in range(runs))
    assert alarms <= binom.isf(1e-3, runs, 0.05)
    if count > 3:
        assert all(overall(gate(draw(), draw(slower=2.0), rules)) == "fail" for _ in range(20))


def test_computed_costs_need_no_repetitions() -> None:
    rules = RuleSet(rules=(Rule(metric="flops", relative=0.1),))
    (verdict,) = gate([profile((1.0,))], [profile((1.0,), flops=2e9)], rules)
    assert (verdict.outcome, verdict.p_value) == ("fail", None)


def test_costs_are_exact_in_every_environment() -> None:
    def cost(count: float, cpu: str) -> RunRecord:
        parameters = Measurement(name="parameters[decoder]", unit="", samples=(count,))
        return RunRecord(kind="cost", subject="model", measurements=(parameters,), provenance={"machine": {"cpu": cpu}})

    assert [v.outcome for v in gate([cost(1000, "C")], [cost(1000, "D")])] == ["pass"]
    (fewer,) = gate([cost(1000, "C")], [cost(999, "D")])
    assert (fewer.outcome, fewer.reason.partition(":")[0]) == ("fail", "suspiciously good")


def test_a_run_with_other_settings_is_another_model() -> None:
    def of(changed: dict[str, Any] | None) -> RunRecord:
        origin = {} if changed is None else {"changed": changed}
        return evaluation(metric("FID", 1.0), preset="nvg-tiny", provenance=origin)

    plain, rope = of({}), of({"model.structure_rope": False})
    (verdict,) = gate([plain], [rope])
    assert verdict.outcome == "inconclusive"
    assert "another model: nvg-tiny (model.structure_rope=false) now, nvg-tiny in the baseline" in verdict.reason
    assert gate([plain], [plain])[0].outcome == "pass"
    assert gate([of(None)], [rope])[0].outcome == "pass"  # older records do not tell


def test_measurements_of_a_run_with_other_settings_are_not_compared() -> None:
    def of(changed: dict[str, Any] | None = None, settings: dict[str, Any] | None = None, flops: float = 1e9) -> RunRecord:
        found = profile((1.0, 1.1, 0.9), flops=flops)
        entries = {"changed": changed, "settings": settings}
        origin = found.provenance | {key: value for key, value in entries.items() if value is not None}
        return dataclasses.replace(found, preset="nvg-tiny", provenance=origin)

    def reason(old: RunRecord, new: RunRecord) -> str:
        """The common reason of all verdicts, none of which may have a baseline's value."""
        verdicts = gate([old], [new])
        assert {(one.metric, one.outcome, one.baseline) for one in verdicts} == {
            ("latency (batch 1)", "inconclusive", None), ("flops (batch 1)", "inconclusive", None),
        }  # fmt: skip
        (found,) = {one.reason for one in verdicts}
        return found

    deep = of({"model.depth": 9}, flops=3e9)
    assert reason(of({}), deep) == "not judged: another model: nvg-tiny (model.depth=9) now, nvg-tiny in the baseline"
    assert reason(of({}, {"cfg": 2.0, "steps": 9}), of({}, {"cfg": 0.0, "steps": 9, "new": 1})) == (
        "not judged: other sampling settings: cfg=0.0 now, cfg=2.0 in the baseline"
    )
    for old, new in (
        (of({"model.depth": 9}), of({"model.depth": 9})),
        (of({}, {"schedule": (1, 2)}), of({}, {"schedule": [1, 2]})),  # read from a file
        (of(), of({}, {"cfg": 2.0})),  # older records do not tell
    ):
        assert {one.outcome for one in gate([old], [new])} == {"pass"}
