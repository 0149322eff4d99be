"""Gates on time, memory, energy and FLOPs (medians and ranks of samples), and on costs computed from a configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from nvgbench.gates.baseline import MEASURED_KINDS, Baseline
from nvgbench.gates.environment import COUNTED_KINDS, Environment, environment_of
from nvgbench.gates.reasons import NOT_IN_BASELINE, NOT_MEASURED, failure, no_baseline_here
from nvgbench.gates.rules import Rule, RuleSet
from nvgbench.gates.schema import Verdict
from nvgbench.results.models import other_model, other_sampling
from nvgbench.results.schema import RunRecord
from nvgbench.types import Measurement

LEAST = 4
"""Fewest repetitions of each side for a failure: three and three are completely separated in one case of ten by chance."""
_MOST_EXACT = 900
_COUNTED = ("flops",)
"""Prefixes of measurements that are the same in every environment, also in a profile."""

Direction = Literal["greater", "less"]
Key = tuple[str, str, Any]
Found = tuple[Measurement, RunRecord]


def judge_measurements(rules: RuleSet, baseline: Baseline, records: Sequence[RunRecord]) -> Iterator[Verdict]:
    """One verdict for each measurement of the baseline's subjects that has a rule.

    Those of interval rules have a p-value, not yet adjusted for the number of tests.
    """
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
        olds = [(environment, found[key]) for environment, found in known if key in found and found[key][0].samples]
        verdict = _judge_measurement(empty, rule, olds, now.get(key))
        if verdict is not None:
            yield verdict


def _judge_measurement(empty: Verdict, rule: Rule, olds: list[tuple[Environment, Found]], new: Found | None) -> Verdict | None:
    """Find the baseline of one measurement and judge the change; None if it was never available."""
    if new is None:
        return dataclasses.replace(empty, baseline=olds[0][1][0].median, reason=NOT_MEASURED) if olds else None
    measurement, record = new
    if not measurement.samples:
        note = measurement.note or "not available this time"
        return dataclasses.replace(empty, baseline=olds[0][1][0].median, reason=note) if olds else None
    if not olds:
        return dataclasses.replace(empty, value=measurement.median, reason=NOT_IN_BASELINE, blocking=False)
    here = environment_of(record)
    anywhere = measurement.name.startswith(_COUNTED)
    old = next((one for environment, one in olds if environment == here), olds[-1][1] if anywhere else None)
    if old is None:
        reason = no_baseline_here([environment for environment, _ in olds], here)
        return dataclasses.replace(empty, value=measurement.median, reason=reason, blocking=rule.blocking_elsewhere)
    if (other := other_model(old[1], record) or other_sampling(old[1], record)) is not None:
        return dataclasses.replace(empty, value=measurement.median, reason=f"not judged: {other}")
    # Computed costs have no noise: a single number is enough.
    return _judge_change(empty, rule, old[0], measurement, counted=anywhere or record.kind in COUNTED_KINDS)


def _judge_change(empty: Verdict, rule: Rule, old: Measurement, new: Measurement, counted: bool) -> Verdict:
    """The verdict of one rule alone, before p-values are adjusted for their number."""
    before, after = old.median, new.median
    margin = rule.margin(before)
    better = new.higher_is_better
    good = better is not None and after != before and (after > before) == better
    noisy = rule.kind == "interval" and not counted
    p_value = None
    if noisy and min(len(old.samples), len(new.samples)) >= LEAST:
        bad: Direction | None = None if better is None or rule.direction == "both" else "less" if better else "greater"
        p_value = _p_value(old.samples, new.samples, margin, bad)
    verdict = dataclasses.replace(empty, baseline=before, value=after, margin=margin, p_value=p_value)
    if abs(after - before) <= margin:
        reason = "the same" if rule.kind == "exact" else "within the margin"
        return dataclasses.replace(verdict, outcome="pass", reason=reason)
    if good and rule.direction == "worse":
        return dataclasses.replace(verdict, outcome="pass", reason="better than the margin asks")
    if noisy and p_value is None:
        counts = f"{len(old.samples)} and {len(new.samples)}"
        reason = f"beyond the margin, but {counts} repetitions cannot tell noise from change; it takes {LEAST} of each"
        return dataclasses.replace(verdict, reason=reason)
    return dataclasses.replace(verdict, outcome="fail", reason=failure(rule, better, good, "the repetitions" if noisy else ""))


def _p_value(old: Sequence[float], new: Sequence[float], margin: float, bad: Direction | None) -> float:
    """Probability of ranks that differ this much by chance if the true shift is at the margin (Mann and Whitney 1947).

    ``bad``: the only direction that counts; None for both.
    """
    greater = _rank_sum(new, [sample + margin for sample in old], "greater")
    less = _rank_sum(new, [sample - margin for sample in old], "less")
    if bad is None:
        return min(1.0, 2 * min(greater, less))
    return greater if bad == "greater" else less


def _rank_sum(new: Sequence[float], old: Sequence[float], alternative: Direction) -> float:
    from scipy.stats import mannwhitneyu

    # Exact if that is quick: the normal approximation is useless for a handful of samples. Ties make it conservative.
    method = "exact" if len(new) * len(old) <= _MOST_EXACT else "asymptotic"
    return float(mannwhitneyu(new, old, alternative=alternative, method=method).pvalue)


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
