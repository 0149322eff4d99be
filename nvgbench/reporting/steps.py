"""Steps in a sequence of values: where the mean changes, with an interval of the place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

FEWEST = 8
"""Values below which no step is looked for."""
_SHORTEST = 3
"""Values on either side of a step."""
_PERMUTATIONS = 999


@dataclass(frozen=True, kw_only=True)
class Step:
    """A change of the mean between two values.

    Attributes:
        place: index of the first value after the step.
        first, last: smallest and largest ``place`` of the interval.
        before, after: means from the step before to this one, and from it to the next.
        low, high: interval of ``after - before``, given the place.
        p: share of permutations without a step whose largest change is as large.
    """

    place: int
    first: int
    last: int
    before: float
    after: float
    low: float
    high: float
    p: float


def find_steps(values: Sequence[float], *, level: float = 0.95, seed: int = 0) -> list[Step]:
    """The steps of a sequence with independent noise of one variance, in order; none in fewer than eight values.

    Binary segmentation: a part is split at its largest change, with at least three values on either side, if a permutation test
    decides that there is one. The interval of a place holds all places whose log likelihood is within c of the best, where
    (1 - exp(-c))² = ``level`` (Siegmund, Confidence sets in change-point problems, 1988); it is conservative, since places are
    discrete.

    Args:
        values: in the order of time.
        level: of the tests and intervals.
        seed: of the permutations.
    """
    values_N = np.asarray(values, dtype=np.float64)
    found: dict[int, float] = {}
    _split(values_N, 0, len(values_N), 1 - level, np.random.default_rng(seed), found)
    places = sorted(found)
    if not places:
        return []
    parts = np.split(values_N, places)
    df = len(values_N) - len(parts)
    variance = sum(float(((part - part.mean()) ** 2).sum()) for part in parts) / df
    edges = [0, *places, len(values_N)]
    steps = []
    for number, place in enumerate(places):
        start, end = edges[number], edges[number + 2]
        first, last = _places(values_N[start:end], place - start, variance, level)
        before, after = parts[number], parts[number + 1]
        half = stats.t.ppf((1 + level) / 2, df) * math.sqrt(variance * (1 / len(before) + 1 / len(after)))
        change = float(after.mean() - before.mean())
        steps.append(
            Step(
                place=place, first=start + first, last=start + last, before=float(before.mean()), after=float(after.mean()),
                low=change - half, high=change + half, p=found[place],
            )
        )  # fmt: skip
    return steps


def _split(values_N: np.ndarray, start: int, end: int, alpha: float, rng: np.random.Generator, found: dict[int, float]) -> None:
    """Add the steps between ``start`` and ``end``, with their p-values, to ``found``."""
    part_N = values_N[start:end]
    if len(part_N) < FEWEST or np.ptp(part_N) == 0:
        return
    explained = _explained(part_N[None])[0, _SHORTEST - 1 : len(part_N) - _SHORTEST]
    best = int(explained.argmax())
    shuffled = rng.permuted(np.tile(part_N, (_PERMUTATIONS, 1)), axis=1)
    largest = _explained(shuffled)[:, _SHORTEST - 1 : len(part_N) - _SHORTEST].max(axis=1)
    # Sums in another order differ in the last digits.
    p = (1 + int((largest >= explained[best] * (1 - 1e-9)).sum())) / (1 + _PERMUTATIONS)
    if p > alpha:
        return
    place = start + best + _SHORTEST
    found[place] = p
    # Both parts together have the same chance of a step that is none.
    _split(values_N, start, place, alpha / 2, rng, found)
    _split(values_N, place, end, alpha / 2, rng, found)


def _explained(values_RN: np.ndarray) -> np.ndarray:
    """Sum of squares explained by a step after each value but the last, ``[R, N - 1]``."""
    centred = values_RN - values_RN.mean(axis=1, keepdims=True)
    n = values_RN.shape[1]
    before = np.arange(1, n)
    sums = centred.cumsum(axis=1)[:, :-1]
    return np.asarray(sums**2 * n / (before * (n - before)))


def _places(part_N: np.ndarray, place: int, variance: float, level: float) -> tuple[int, int]:
    """The first and last place of the interval, around ``place``."""
    if variance == 0:
        return place, place
    explained = _explained(part_N[None])[0]
    threshold = -math.log(1 - math.sqrt(level))
    inside = np.flatnonzero((explained[place - 1] - explained) / (2 * variance) <= threshold) + 1
    return int(inside.min()), int(inside.max())
