"""Gates on time, memory, energy and FLOPs (medians of raw samples) and on what is counted from a configuration."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from nvgbench.gates.baseline import MEASURED_KINDS, Baseline
from nvgbench.gates.environment import Environment, environment_of
from nvgbench.gates.reasons import NOT_IN_BASELINE, NOT_MEASURED, failure, no_baseline_here
from nvgbench.gates.rules import Rule, RuleSet
from nvgbench.gates.schema import Verdict
from nvgbench.results.schema import RunRecord
from nvgbench.types import Measurement

_COUNTED = ("flops",)
"""Measurements (by the start of their name) that are the same in every environment, also in a profile."""

Key = tuple[str, str, Any]
Found = tuple[Measurement, RunRecord]


def judge_measurements(rules: RuleSet, baseline: Baseline, records: Sequence[RunRecord]) -> Iterator[Verdict]:
    """One verdict for each measurement that a rule names, of the subjects of the baseline."""
    now = _newest(records)
    known = [(group.environment, _newest(group.records)) for group in baseline.groups]
    keys = dict.fromkeys([*(key for _, found in known for key in found), *(key for key in now if key[0] in baseline.subjects)])
    for key in keys:
        subject, name, batch_size = key
        rule = rules.rule_for(name)
        if rule is None:
            continue
        label = name if batch_size is None else f"{name} (batch {batch_size})"
        empty = Verdict(subject=subject, metric=label, outcome="inconclusive", reason="", blocking=rule.blocking)
        olds = [(environment, found[key][0]) for environment, found in known if key in found and found[key][0].samples]
        verdict = _judge_measurement(empty, rule, olds, now.get(key))
        if verdict is not None:
            yield verdict


def _judge_measurement(
    empty: Verdict, rule: Rule, olds: list[tuple[Environment, Measurement]], new: Found | None
) -> Verdict | None:
    """One measurement: find its baseline and judge the change; None where it never was available."""
    if new is None:
        return dataclasses.replace(empty, baseline=_median(olds[0][1]), reason=NOT_MEASURED) if olds else None
    measurement, record = new
    if not measurement.samples:
        note = measurement.note or "not available this time"
        return dataclasses.replace(empty, baseline=_median(olds[0][1]), reason=note) if olds else None
    if not olds:
        return dataclasses.replace(empty, value=_median(measurement), reason=NOT_IN_BASELINE, blocking=False)
    here = environment_of(record)
    anywhere = measurement.name.startswith(_COUNTED)
    old = next((one for environment, one in olds if environment == here), olds[-1][1] if anywhere else None)
    if old is None:
        reason = no_baseline_here([environment for environment, _ in olds], here)
        return dataclasses.replace(empty, value=_median(measurement), reason=reason, blocking=rule.blocking_elsewhere)
    return _judge_change(empty, rule, old, measurement)


def _judge_change(empty: Verdict, rule: Rule, old: Measurement, new: Measurement) -> Verdict:
    before, after = _median(old), _median(new)
    margin = rule.margin(before)
    verdict = dataclasses.replace(empty, baseline=before, value=after, margin=margin)
    better = new.higher_is_better
    good = better is not None and after != before and (after > before) == better
    if abs(after - before) <= margin:
        reason = "the same" if rule.kind == "exact" else "within the margin"
        return dataclasses.replace(verdict, outcome="pass", reason=reason)
    if good and rule.direction == "worse":
        return dataclasses.replace(verdict, outcome="pass", reason="better than the margin asks")
    if rule.kind == "interval" and _overlap(old.samples, new.samples):
        return dataclasses.replace(verdict, reason="beyond the margin, but the repetitions overlap")
    return dataclasses.replace(verdict, outcome="fail", reason=failure(rule, better, good))


def _median(measurement: Measurement) -> float:
    return statistics.median(measurement.samples)


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether the middle halves of two sets of repetitions share a value."""

    def middle(samples: Sequence[float]) -> tuple[float, float]:
        if len(samples) < 2:
            return samples[0], samples[0]
        low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
        return low, high

    (low_a, high_a), (low_b, high_b) = middle(a), middle(b)
    return low_a <= high_b and low_b <= high_a


def _newest(records: Sequence[RunRecord]) -> dict[Key, Found]:
    """The newest measurement by subject, name and batch size."""
    found: dict[Key, Found] = {}
    for record in records:
        if record.kind not in MEASURED_KINDS:
            continue
        for measurement in record.measurements:
            key = (record.subject, measurement.name, measurement.conditions.get("batch_size"))
            if key not in found or record.created >= found[key][1].created:
                found[key] = (measurement, record)
    return found
