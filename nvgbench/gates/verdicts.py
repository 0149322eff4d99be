"""New records against a baseline: pass, fail or inconclusive, metric by metric.

A change fails an interval rule where it is larger than the margin and noise does not explain the excess. Many metrics are
tested at once, so the share of false alarms among the failures is held at `FALSE_DISCOVERY_RATE` (Benjamini and Hochberg
1995) over all interval rules of a gate. A change beyond the margin that noise could explain is inconclusive, not a pass.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist

from nvgbench.errors import InputError
from nvgbench.gates.baseline import GATED_KINDS
from nvgbench.gates.measured import judge_measurements
from nvgbench.gates.rules import Rule, rule_for
from nvgbench.gates.schema import Verdict
from nvgbench.results.compare import Difference, compare, latest_metrics, standard_error
from nvgbench.results.schema import RunRecord

FALSE_DISCOVERY_RATE = 0.05


def evaluate_gates(rules: Sequence[Rule], baseline: Iterable[RunRecord], records: Iterable[RunRecord]) -> list[Verdict]:
    """Hold the newest ``records`` against ``baseline``; one verdict for each metric that the baseline has and a rule names.

    Raises:
        InputError: no subject in common, or scores that must not be compared: unequal n, reference, extractor or protocol.
    """
    baseline, records = list(baseline), list(records)
    shared = {record.subject for record in baseline} & {record.subject for record in records if record.kind in GATED_KINDS}
    if not shared:
        names = ", ".join(sorted({record.subject for record in baseline})) or "nothing"
        raise InputError(f"no record has a subject of the baseline, which holds {names}; name those runs, or use --update")
    verdicts = [*_judge_metrics(rules, baseline, records), *judge_measurements(rules, baseline, records)]
    if not verdicts:
        raise InputError('no rule fits any metric of the baseline; give a rule with match = "*" to gate all of them')
    return verdicts


def gate_fails(verdicts: Iterable[Verdict]) -> bool:
    """Whether any blocking rule failed."""
    return any(verdict.outcome == "fail" and verdict.blocking for verdict in verdicts)


def _judge_metrics(rules: Sequence[Rule], baseline: list[RunRecord], records: list[RunRecord]) -> list[Verdict]:
    kinds = [kind for kind in GATED_KINDS if kind != "profile"]
    now = latest_metrics(records, kinds)
    verdicts: list[Verdict] = []
    pending: list[tuple[int, float]] = []
    for subject, metrics in latest_metrics(baseline, kinds).items():
        for name, old in metrics.items():
            rule = rule_for(name, rules)
            if rule is None:
                continue
            new = now.get(subject, {}).get(name)
            empty = Verdict(subject=subject, metric=name, outcome="inconclusive", reason="", blocking=rule.blocking)
            if new is None:
                verdicts.append(dataclasses.replace(empty, baseline=old.metric.value, reason="not measured this time"))
            elif old.metric.value is None or new.metric.value is None:
                side = "the baseline" if old.metric.value is None else "the new record"
                note = (old if old.metric.value is None else new).metric.note
                verdicts.append(dataclasses.replace(empty, reason=f"{side} has no value ({note or 'no reason recorded'})"))
            else:
                verdict = _judge(empty, rule, compare(old, new))
                if verdict.p_value is not None:
                    pending.append((len(verdicts), verdict.p_value))
                verdicts.append(verdict)
    _hold_false_discoveries(verdicts, pending)
    return verdicts


def _judge(empty: Verdict, rule: Rule, found: Difference) -> Verdict:
    """The verdict of one rule alone; failures of interval rules still have to pass `_hold_false_discoveries`."""
    old, new = found.baseline.value, found.candidate.value
    assert old is not None
    assert new is not None
    margin = rule.margin(old)
    verdict = dataclasses.replace(empty, baseline=old, value=new, margin=margin)
    direction = found.candidate.higher_is_better
    good = direction is not None and found.value != 0 and (found.value > 0) == direction
    excess = abs(found.value) - margin
    deviation = _deviation(found)
    p_value = None if rule.kind == "tolerance" or deviation is None else _p_value(excess, deviation)
    if excess <= 0:
        reason = "within the margin"
        if rule.kind == "interval" and deviation is not None:
            reason += f"; a change of {margin + 2 * deviation:.3g} would have been noticed"
        return dataclasses.replace(verdict, outcome="pass", reason=reason, p_value=p_value)
    if good and not rule.two_sided:
        return dataclasses.replace(verdict, outcome="pass", reason="better than the margin asks")
    if rule.kind == "interval" and deviation is None:
        return dataclasses.replace(verdict, reason="beyond the margin, but without intervals noise cannot be told from change")
    word = "suspiciously good" if good else "worse" if direction is not None else "changed"
    return dataclasses.replace(verdict, outcome="fail", reason=f"{word}, beyond the margin", p_value=p_value)


def _hold_false_discoveries(verdicts: list[Verdict], pending: list[tuple[int, float]]) -> None:
    """Turn failures that the Benjamini-Hochberg step does not uphold into inconclusive ones, in place."""
    ordered = sorted(p_value for _, p_value in pending)
    upheld = [p for rank, p in enumerate(ordered, start=1) if p <= FALSE_DISCOVERY_RATE * rank / len(ordered)]
    threshold = max(upheld, default=-1.0)
    for index, p_value in pending:
        verdict = verdicts[index]
        if verdict.outcome == "fail" and p_value > threshold:
            verdicts[index] = dataclasses.replace(
                verdict, outcome="inconclusive", reason=f"beyond the margin, but noise could explain it (p = {p_value:.2g})"
            )


def _deviation(found: Difference) -> float | None:
    """Standard error of the difference, from both intervals, or None where one is missing or of another level."""
    if found.low is None or found.baseline.interval is None or found.candidate.interval is None:
        return None
    return math.hypot(standard_error(found.baseline.interval), standard_error(found.candidate.interval))


def _p_value(excess: float, deviation: float) -> float:
    """Two-sided probability of a difference that far beyond the margin, were the true change just at the margin."""
    if deviation == 0:
        return 0.0 if excess > 0 else 1.0
    return min(1.0, 2 * (1 - NormalDist().cdf(excess / deviation)))
