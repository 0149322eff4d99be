"""Variants compared over training seeds, in words that an interval backs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import stdtrit

from nvgbench.ablations.study import Variant
from nvgbench.ablations.two_way import TwoWayFit, fit_two_way
from nvgbench.results.study import Finding, Verdict

_ERROR_RATE = 0.05


def compare_variants(
    rows: Sequence[Mapping[str, Any]],
    variants: Sequence[Variant],
    *,
    metric: str,
    value: str = "value",
    probes: Collection[str] = (),
) -> list[Finding]:
    """Each variant minus its baseline, with the training seeds as blocks.

    Values are variant effect + seed effect + error (`nvgbench.ablations.two_way`). Variants that are connected by comparisons
    share one error variance, which is assumed to be equal and is estimated from all of their residuals; variants on other data
    sets, which no comparison connects, have their own. With two variants this is the paired t test and assumes nothing about
    equal spreads. Intervals are Student's, cover training and the sampling noise within it, and hold for all comparisons of the
    study together (Bonferroni). A metric that is equal in every pair shows no difference; one seed decides nothing else.

    Args:
        rows: of one metric: ``variant``, ``seed``, ``value`` and, if a direction is better, ``higher_is_better``.
        variants: in the order of the study; the first one is the baseline of those that name none.
        metric: its name, for the sentences.
        value: column of the values.
        probes: variants whose spread is not pooled, e.g. those measured on the trainings of their baseline: the error of
            training is in both, so their difference spreads less than others.
    """
    values: dict[str, dict[int, float]] = {}
    for row in rows:
        if row.get(value) is not None:
            values.setdefault(str(row["variant"]), {})[int(row["seed"])] = float(row[value])
    direction = next((row.get("higher_is_better") for row in rows), None)
    pairs = [(one.name, one.baseline or variants[0].name) for one in variants if (one.baseline or variants[0].name) != one.name]
    level = 1 - _ERROR_RATE / max(len(pairs), 1)
    pools = _connected([pair for pair in pairs if pair[0] not in probes])
    findings = []
    for name, base in pairs:
        pool = {name, base} if name in probes else next(pool for pool in pools if name in pool)
        pooled = {one: by_seed for one, by_seed in values.items() if one in pool}
        findings.append(_compared(name, base, pooled, metric, direction, level))
    return findings


def _connected(pairs: Sequence[tuple[str, str]]) -> list[set[str]]:
    """The variants of each set of comparisons that are linked by common variants."""
    pools: list[set[str]] = []
    for pair in pairs:
        linked = [pool for pool in pools if not pool.isdisjoint(pair)]
        pools = [pool for pool in pools if pool not in linked] + [set(pair).union(*linked)]
    return pools


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
    pooled: Mapping[str, Mapping[int, float]],
    metric: str,
    higher_is_better: bool | None,
    level: float,
) -> Finding:
    """One comparison.

    ``pooled``: values by variant and seed of all variants that share the error variance, these two among them.
    """
    own, other = pooled.get(name, {}), pooled.get(base, {})
    seeds = sorted(own.keys() & other.keys())
    if not seeds:
        return Finding(text=f"{name} was not compared with {base}: no seed was measured for both.", verdict="inconclusive",
                       subject=name, metric=metric, n=0)  # fmt: skip
    differences = np.array([own[seed] - other[seed] for seed in seeds])
    fit = fit_two_way(pooled)
    # Equals the mean of the differences unless trainings are missing.
    estimate, unit = fit.difference(name, base)
    means = [float(np.mean([values[seed] for seed in seeds])) for values in (own, other)]
    said = f"{name}: {metric} {means[0]:.4g}, {base}: {means[1]:.4g}"
    low = high = None
    verdict: Verdict = "inconclusive"
    if not differences.any():
        estimate, verdict, reason = 0.0, "no difference", f"equal in {_trainings(len(seeds))}"
    elif len(seeds) < 2:
        reason = f"difference {estimate:+.3g} from one training each, which says nothing about other trainings"
    elif not fit.spread:
        reason = f"difference {estimate:+.3g} in {_trainings(len(seeds))}, without the spread that an interval needs"
    else:
        reach = float(stdtrit(fit.degrees, (1 + level) / 2)) * unit * fit.spread
        low, high = estimate - reach, estimate + reach
        if low > 0 or high < 0:
            verdict = "different" if higher_is_better is None else "better" if (estimate > 0) == higher_is_better else "worse"
        reason = f"difference {estimate:+.3g} [{low:.3g}, {high:.3g}] over {_trainings(len(seeds))}"
        if len(pooled) > 2:
            reason += _assumption(fit, float(differences.std(ddof=1)))
    return Finding(
        text=f"{said}; {reason}.", verdict=verdict, subject=name, metric=metric, value=estimate, low=low, high=high,
        level=None if low is None else level, n=len(seeds),
    )  # fmt: skip


def _assumption(fit: TwoWayFit, spread: float) -> str:
    """That the spread is pooled, beside the spread of this difference alone, so that a reader can doubt it."""
    return (
        f"; their standard deviation is {spread:.2g}, and the interval assumes an equal one for all {len(fit.variants)} "
        f"variants ({np.sqrt(2) * fit.spread:.2g}, {fit.degrees} degrees of freedom)"
    )


def _trainings(count: int) -> str:
    return "one pair of trainings" if count == 1 else f"{count} pairs of trainings"
