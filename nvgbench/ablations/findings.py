"""Variants compared over training seeds, in words that an interval backs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t

from nvgbench.ablations.study import Variant
from nvgbench.results.study import Finding, Verdict

_ERROR_RATE = 0.05


def compare_variants(
    rows: Sequence[Mapping[str, Any]], variants: Sequence[Variant], *, metric: str, value: str = "value"
) -> list[Finding]:
    """Each variant minus its baseline, paired by training seed.

    Intervals are Student's over the seeds. They cover training and the sampling noise within it, and hold for all comparisons
    of the study together (Bonferroni). A metric that is equal in every pair shows no difference; one seed decides nothing else.

    Args:
        rows: of one metric: ``variant``, ``seed``, ``value`` and, if a direction is better, ``higher_is_better``.
        variants: in the order of the study; the first one is the baseline of those that name none.
        metric: its name, for the sentences.
        value: column of the values.
    """
    values: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.get(value) is not None:
            values.setdefault(str(row["variant"]), {})[int(row["seed"])] = float(row[value])
    direction = next((row.get("higher_is_better") for row in rows), None)
    pairs = [(one.name, one.baseline or variants[0].name) for one in variants if (one.baseline or variants[0].name) != one.name]
    level = 1 - _ERROR_RATE / max(len(pairs), 1)
    return [_compared(name, base, values.get(name, {}), values.get(base, {}), metric, direction, level) for name, base in pairs]


def difference_rows(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """The differences as a table, for a chart with intervals."""
    return [
        {
            "variant": one.subject, "metric": one.metric, "value": one.value, "value_low": one.low, "value_high": one.high,
            "level": one.level, "n": one.n, "verdict": one.verdict,
        }
        for one in findings
        if one.value is not None
    ]  # fmt: skip


def _compared(
    name: str,
    base: str,
    own: Mapping[int, float],
    other: Mapping[int, float],
    metric: str,
    higher_is_better: bool | None,
    level: float,
) -> Finding:
    seeds = sorted(own.keys() & other.keys())
    if not seeds:
        return Finding(text=f"{name} was not compared with {base}: no seed was measured for both.", verdict="inconclusive",
                       subject=name, metric=metric, n=0)  # fmt: skip
    differences = np.array([own[seed] - other[seed] for seed in seeds])
    mean = float(differences.mean())
    means = [float(np.mean([values[seed] for seed in seeds])) for values in (own, other)]
    said = f"{name}: {metric} {means[0]:.4g}, {base}: {means[1]:.4g}"
    low = high = None
    verdict: Verdict = "inconclusive"
    if not differences.any():
        verdict, reason = "no difference", f"equal in {_trainings(len(seeds))}"
    elif len(seeds) < 2:
        reason = f"difference {mean:+.3g} from one training each, which says nothing about other trainings"
    elif np.ptp(differences) <= 1e-12 * np.abs(differences).max():
        reason = f"difference {mean:+.3g} in {_trainings(len(seeds))}, without the spread that an interval needs"
    else:
        reach = float(t.ppf((1 + level) / 2, len(seeds) - 1) * differences.std(ddof=1) / np.sqrt(len(seeds)))
        low, high = mean - reach, mean + reach
        if low > 0 or high < 0:
            verdict = "different" if higher_is_better is None else "better" if (mean > 0) == higher_is_better else "worse"
        reason = f"difference {mean:+.3g} [{low:.3g}, {high:.3g}] over {_trainings(len(seeds))}"
    return Finding(
        text=f"{said}; {reason}.", verdict=verdict, subject=name, metric=metric, value=mean, low=low, high=high,
        level=None if low is None else level, n=len(seeds),
    )  # fmt: skip


def _trainings(count: int) -> str:
    return "one pair of trainings" if count == 1 else f"{count} pairs of trainings"
