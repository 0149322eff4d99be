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


def test_the_rate_of_false_findings_is_kept() -> None:
    """Equal variants, three seeds each, two comparisons: at most 5 % of studies find any (200: 3 standard errors)."""
    rng = np.random.default_rng(0)
    three = (*PAIR, Variant(name="third"))
    wrong = 0
    for _ in range(200):
        measured = [row for variant in three for row in rows(variant.name, list(rng.standard_normal(3)))]
        wrong += any(one.verdict != "inconclusive" for one in compare_variants(measured, three, metric="FD"))
    assert wrong / 200 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
