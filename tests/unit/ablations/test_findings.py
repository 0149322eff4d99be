"""Verdicts on variants over training seeds, and the studies' negative controls."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from nvgbench.ablations.findings import compare_variants, difference_rows
from nvgbench.ablations.study import Variant

PAIR = (Variant(name="base"), Variant(name="other"))


def rows(variant: str, values: list[float], higher_is_better: bool | None = False) -> list[dict[str, Any]]:
    return [
        {"variant": variant, "seed": seed, "value": value, "higher_is_better": higher_is_better}
        for seed, value in enumerate(values)
    ]


def test_a_constant_metric_shows_no_difference() -> None:
    (found,) = compare_variants([*rows("base", [2.0] * 3), *rows("other", [2.0] * 3)], PAIR, metric="FD")
    assert (found.verdict, found.value, found.low) == ("no difference", 0.0, None)


def test_the_same_run_twice_shows_no_difference() -> None:
    (found,) = compare_variants([*rows("base", [1.5, 2.5]), *rows("other", [1.5, 2.5])], PAIR, metric="FD")
    assert found.verdict == "no difference"


def test_one_seed_is_inconclusive() -> None:
    (found,) = compare_variants([*rows("base", [1.0]), *rows("other", [9.0])], PAIR, metric="FD")
    assert found.verdict == "inconclusive"
    assert "one training each" in found.text


@pytest.mark.parametrize(
    ("shift", "higher", "verdict"),
    [
        (-5.0, False, "better"),
        (5.0, False, "worse"),
        (5.0, True, "better"),
        (5.0, None, "different"),
        (0.1, False, "inconclusive"),
    ],
)
def test_the_interval_decides(shift: float, higher: bool | None, verdict: str) -> None:
    noise = [0.3, -0.4, 0.2, -0.1]
    other = [value + shift for value in noise]
    (found,) = compare_variants([*rows("base", [0.0] * 4, higher), *rows("other", other, higher)], PAIR, metric="FD")
    expected = stats.t.interval(0.95, 3, np.mean(other), stats.sem(other))
    assert (found.low, found.high) == pytest.approx(expected)
    assert found.verdict == verdict


def test_intervals_hold_for_all_comparisons_together() -> None:
    three = (*PAIR, Variant(name="third", baseline="other"))
    found = compare_variants(
        [*rows("base", [1.0, 2.0]), *rows("other", [2.0, 2.5]), *rows("third", [2.5, 2.75])], three, metric="FD"
    )
    assert [one.subject for one in found] == ["other", "third"]
    assert found[1].value == pytest.approx(0.375)  # against "other", not against the first variant
    assert {one.level for one in found} == {0.975}
    assert [row["verdict"] for row in difference_rows(found)] == ["inconclusive"] * 2


def test_equal_differences_give_no_interval() -> None:
    (found,) = compare_variants([*rows("base", [1.0, 2.0]), *rows("other", [2.0, 3.0])], PAIR, metric="FD")
    assert (found.verdict, found.low) == ("inconclusive", None)


def test_seeds_are_paired_and_unmatched_ones_left_out() -> None:
    measured = [*rows("base", [1.0, 5.0, 9.0]), *rows("other", [2.0, 6.5])]
    (found,) = compare_variants(measured, PAIR, metric="FD")
    assert (found.n, found.value) == (2, pytest.approx(1.25))
    (none,) = compare_variants(rows("base", [1.0]), PAIR, metric="FD")
    assert (none.n, none.verdict) == (0, "inconclusive")


def layout(values_VS: Any, names: tuple[str, ...] = ("base", "a", "b", "c")) -> list[dict[str, Any]]:
    return [row for name, values in zip(names, values_VS, strict=True) for row in rows(name, [float(one) for one in values])]


FOUR = tuple(Variant(name=name) for name in ("base", "a", "b", "c"))


def test_the_spread_is_pooled_over_variants_with_seeds_as_blocks() -> None:
    """The textbook's two-way analysis of variance: residuals by double centring, (V - 1)(S - 1) degrees of freedom."""
    noise_VS = np.random.default_rng(1).standard_normal((4, 3))
    values_VS = noise_VS + np.array([[0.0], [1.0], [2.0], [9.0]]) + np.array([5.0, 6.0, 8.0])
    residuals_VS = values_VS - values_VS.mean(1, keepdims=True) - values_VS.mean(0) + values_VS.mean()
    reach = stats.t.ppf(1 - 0.025 / 3, 6) * np.sqrt(2 / 3 * (residuals_VS**2).sum() / 6)
    for index, found in enumerate(compare_variants(layout(values_VS), FOUR, metric="FD"), start=1):
        difference = values_VS[index].mean() - values_VS[0].mean()
        assert (found.value, found.low, found.high) == pytest.approx((difference, difference - reach, difference + reach))
        assert "assumes an equal one for all 4 variants" in found.text
        assert "6 degrees of freedom" in found.text


def test_missing_trainings_are_fitted_by_least_squares() -> None:
    """Dummy variables without the first variant and seed, by the normal equations."""
    values_VS = np.random.default_rng(2).standard_normal((4, 3))
    kept = [row for row in layout(values_VS) if (row["variant"], row["seed"]) not in {("base", 0), ("c", 0)}]
    names = [one.name for one in FOUR]
    cells = [[row["variant"] == name for name in names] + [row["seed"] == seed for seed in (1, 2)] for row in kept]
    design, observed = np.array(cells, float), np.array([row["value"] for row in kept])
    gram = np.linalg.inv(design.T @ design)
    effects = gram @ design.T @ observed
    variance = ((observed - design @ effects) ** 2).sum() / (10 - 6)
    found = compare_variants(kept, FOUR, metric="FD")
    assert [one.n for one in found] == [2, 2, 2]
    for index, one in enumerate(found, start=1):
        contrast = np.zeros(6)
        contrast[[0, index]] = -1, 1
        reach = stats.t.ppf(1 - 0.025 / 3, 4) * np.sqrt(variance * contrast @ gram @ contrast)
        difference = contrast @ effects
        assert (one.value, one.low, one.high) == pytest.approx((difference, difference - reach, difference + reach))


def test_only_connected_comparisons_share_a_spread() -> None:
    """Two data sets on scales of their own, and a probe of the baseline's trainings: paired t tests."""
    scores = {"x": [1.0, 2.0, 4.0], "x new": [1.5, 2.0, 4.25], "y": [100.0, 150.0, 90.0], "y new": [140.0, 120.0, 80.0]}
    variants = [Variant(name=name, baseline=name[0]) for name in scores]
    measured = [row for name, values in scores.items() for row in rows(name, values)]
    probe = [Variant(name="x"), Variant(name="y"), Variant(name="x new")]
    for found in (
        *compare_variants(measured, variants, metric="FD"),
        compare_variants(measured, probe, metric="FD", probes=["x new"])[-1],
    ):
        differences = np.subtract(scores[found.subject], scores[found.subject[0]])
        expected = stats.t.interval(0.975, 2, differences.mean(), stats.sem(differences))
        assert (found.low, found.high) == pytest.approx(expected)
        assert "assumes" not in found.text


def studies(spreads_V: list[float], count: int) -> list[list[bool]]:
    """Simulated studies without a difference, three seeds: which comparisons find one."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        values_VS = rng.standard_normal((4, 3)) * np.array(spreads_V)[:, None] + 5 * rng.standard_normal(3)
        verdicts = [one.verdict for one in compare_variants(layout(values_VS), FOUR, metric="FD")]
        found.append([verdict != "inconclusive" for verdict in verdicts])
    return found


def test_pooled_intervals_keep_the_rate_of_false_findings_with_equal_spreads() -> None:
    """At most 5 % of studies have any false finding (3 standard errors of 300); Bonferroni makes it about 4 %."""
    wrong = np.any(studies([1.0] * 4, 300), axis=1).mean()
    assert 0 < wrong < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 300)


def test_pooled_intervals_are_too_narrow_for_a_variant_that_spreads_more() -> None:
    """As the documentation says: with three times the spread its own rate is 6.6 %, and that of the others is lower.

    The share of one comparison is 1.7 %. Bounds are 3 standard errors of 300 around 6.6 % and above 1.7 %.
    """
    noisy, *others = np.mean(studies([1.0, 3.0, 1.0, 1.0], 300), axis=0)
    assert 0.023 < noisy < 0.109
    assert max(others) < 0.017 + 3 * np.sqrt(0.017 / 300)


def test_the_rate_of_false_findings_is_kept() -> None:
    """Equal variants, three seeds each, two comparisons: at most 5 % of studies find any (200: 3 standard errors)."""
    rng = np.random.default_rng(0)
    three = (*PAIR, Variant(name="third"))
    wrong = 0
    for _ in range(200):
        measured = [row for variant in three for row in rows(variant.name, list(rng.standard_normal(3)))]
        wrong += any(one.verdict != "inconclusive" for one in compare_variants(measured, three, metric="FD"))
    assert wrong / 200 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
