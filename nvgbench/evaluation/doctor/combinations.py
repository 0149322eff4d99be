"""Which variants, alone or together, come nearest to the expected score."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from nvgbench.evaluation.doctor.diagnosis import Combination, Row

Axis = list[Row]
"""Rows of which at most one applies."""
_TRIED = 12
"""Combinations that are computed exactly; they are chosen by the sums of their changes."""
_LISTED = 3
_CLOSE = 0.01
"""Differences below this share of the expected score are equal; the combination of fewer variants is then preferred."""


def nearest_combinations(
    axes: Sequence[Axis], value: float, expected: float, together: Callable[[Sequence[Row]], float]
) -> tuple[Combination, ...]:
    """The combinations of one variant per axis, or none, that come nearest to the expected score.

    Args:
        axes: variants that exclude each other are on one axis.
        value: the score without any change.
        expected: what it should be.
        together: the score under several variants.
    """
    close = _CLOSE * abs(expected)

    def rank(rows: Sequence[Row], found: float) -> tuple[float, int, float]:
        gap = abs(found - expected)
        return (0.0 if gap <= close else gap, len(rows), gap)

    def of(choice: Sequence[Row | None]) -> tuple[Row, ...]:
        return tuple(row for row in choice if row is not None)

    choices = [of(choice) for choice in itertools.product(*([None, *axis] for axis in axes))]
    # A protocol has its own network, so nothing else was computed with it.
    choices = [rows for rows in choices if len(rows) == 1 or all(row.of != "protocol" for row in rows)]
    alone = [rows for rows in choices if len(rows) < 2]
    likely = sorted(choices, key=lambda rows: rank(rows, value + sum(row.change for row in rows)))[:_TRIED]
    tried = {rows: together(rows) if len(rows) > 1 else value + sum(row.change for row in rows) for rows in (*alone, *likely)}
    best: list[tuple[Row, ...]] = []
    for rows in sorted(tried, key=lambda rows: rank(rows, tried[rows])):
        # A further variant that hardly helps says nothing about itself.
        gap = abs(tried[rows] - expected)
        if all(not set(known) <= set(rows) or gap < abs(tried[known] - expected) / 2 for known in best):
            best.append(rows)
    return tuple(
        Combination(variants=tuple(f"{row.variant} ({row.of})" for row in rows), value=tried[rows]) for rows in best[:_LISTED]
    )
