"""Gates on time, memory, energy and FLOPs: medians of raw samples, held against the same machine only."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from nvgbench.gates.rules import Rule, rule_for
from nvgbench.gates.schema import Verdict
from nvgbench.results.schema import RunRecord
from nvgbench.types import Measurement

_MACHINE_FREE = ("flops",)
"""Measurements (by the start of their name) that do not depend on the machine."""


def judge_measurements(rules: Sequence[Rule], baseline: Sequence[RunRecord], records: Sequence[RunRecord]) -> Iterator[Verdict]:
    """One verdict for each measurement of the baseline that a rule names and that the new profile should have."""
    now = _newest(records)
    for key, (old, old_record) in _newest(baseline).items():
        subject, name, batch_size = key
        rule = rule_for(name, rules)
        if rule is None or not old.samples:
            continue
        label = name if batch_size is None else f"{name} (batch {batch_size})"
        empty = Verdict(
            subject=subject, metric=label, outcome="inconclusive", reason="not measured this time", blocking=rule.blocking
        )
        empty = dataclasses.replace(empty, baseline=statistics.median(old.samples))
        new, new_record = now.get(key, (None, None))
        if new is None or new_record is None:
            yield empty
        elif not new.samples:
            yield dataclasses.replace(empty, reason=new.note or "not available this time")
        elif not name.startswith(_MACHINE_FREE) and (difference := _other_machine(old_record, new_record)):
            yield dataclasses.replace(empty, value=statistics.median(new.samples), reason=difference)
        else:
            yield _judge(empty, rule, old, new)


def _judge(empty: Verdict, rule: Rule, old: Measurement, new: Measurement) -> Verdict:
    before, after = statistics.median(old.samples), statistics.median(new.samples)
    margin = rule.margin(before)
    verdict = dataclasses.replace(empty, value=after, margin=margin)
    direction = new.higher_is_better
    good = direction is not None and after != before and (after > before) == direction
    if abs(after - before) <= margin:
        return dataclasses.replace(verdict, outcome="pass", reason="within the margin")
    if good and not rule.two_sided:
        return dataclasses.replace(verdict, outcome="pass", reason="better than the margin asks")
    if rule.kind == "interval" and _overlap(old.samples, new.samples):
        return dataclasses.replace(verdict, reason="beyond the margin, but the repetitions overlap")
    word = "suspiciously good" if good else "worse"
    return dataclasses.replace(verdict, outcome="fail", reason=f"{word}, beyond the margin")


def _overlap(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether the middle halves of two sets of repetitions share a value."""

    def middle(samples: Sequence[float]) -> tuple[float, float]:
        if len(samples) < 2:
            return samples[0], samples[0]
        low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
        return low, high

    (low_a, high_a), (low_b, high_b) = middle(a), middle(b)
    return low_a <= high_b and low_b <= high_a


Newest = dict[tuple[str, str, Any], tuple[Measurement, RunRecord]]


def _newest(records: Sequence[RunRecord]) -> Newest:
    """The newest measurement by subject, name and batch size."""
    found: Newest = {}
    for record in records:
        if record.kind != "profile":
            continue
        for measurement in record.measurements:
            key = (record.subject, measurement.name, measurement.conditions.get("batch_size"))
            if key not in found or record.created >= found[key][1].created:
                found[key] = (measurement, record)
    return found


def _other_machine(a: RunRecord, b: RunRecord) -> str:
    """Why two profiles are not of the same machine, or nothing."""
    for key in ("gpu", "cpu", "cores"):
        left, right = a.provenance.get("machine", {}).get(key), b.provenance.get("machine", {}).get(key)
        if left != right:
            return f"another machine ({key}: {left} then, {right} now)"
    left, right = a.provenance.get("libraries", {}).get("torch"), b.provenance.get("libraries", {}).get("torch")
    if left != right:
        return f"another version of torch ({left} then, {right} now)"
    left, right = a.provenance.get("device", {}), b.provenance.get("device", {})
    if left.get("device") != right.get("device"):
        return f"another device ({left.get('device')} then, {right.get('device')} now)"
    return ""
