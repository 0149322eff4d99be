"""FID∞: the Fréchet distance extrapolated to infinitely many generated images (Chong and Forsyth 2020, section 3).

Its bias falls as 1 / N. The images are cut into 1, 2, … equal parts, the mean distance of the parts of each cut is laid against
one over their size, and the line's value at 0 is the estimate. Every image counts once in each cut, so that the error follows
from what each image does to the line, overlaps of the cuts included. The reference stays as it is. Shape letters: N, D, r.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import Features, Floats, as_features
from nvgbench.metrics.frechet import distance_to_factor
from nvgbench.metrics.jackknife import frechet_contributions

CUTS = 4
"""The images are cut into 1 to so many parts."""
ROUNDS = 4
"""So many random orders of the images are cut."""
IMAGES_A_FEATURE = 2
"""The smallest part needs so many images a feature; below, the distance does not follow 1 / N yet."""


@dataclass(frozen=True)
class Extrapolation:
    """A limit and how it was found.

    Attributes:
        value: the distance for infinitely many images; it may fall below 0 by its error.
        stderr: standard error over other generated images.
        slope: of the distance against 1 / N.
        sizes: images a part of each cut.
        distances: mean distance of the parts of each cut.
    """

    value: float
    stderr: float
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


def fewest_images(dimension: int) -> int:
    """How many images an extrapolation needs for so many features."""
    return CUTS * IMAGES_A_FEATURE * dimension


def extrapolated_frechet(generated: Any, centre: Floats, factor: Floats, *, seed: int = 0) -> Extrapolation:
    """The Fréchet distance to N(``centre``, ``factor`` ``factor``ᵀ) for infinitely many generated images.

    Args:
        generated: features ``[N, D]``, at least `fewest_images` (D).
        centre: mean of the reference ``[D]``.
        factor: a factor of its covariance ``[D, r]``.
        seed: of the random orders.

    Raises:
        InputError: too few images, not a matrix, NaN or infinity.
    """
    features = as_features(generated, "generated features", columns=len(centre))
    n, needed = len(features), fewest_images(features.shape[1])
    if n < needed:
        raise InputError(
            f"FID∞ of {n} images with {features.shape[1]} features; below {needed} images the distance does not follow 1 / N"
        )
    sizes = np.array([n // parts for parts in range(1, CUTS + 1)])
    intercept, gradient = _line(1 / sizes)
    rng = np.random.default_rng(seed)
    distances, contributions_N = np.zeros(CUTS), np.zeros(n)
    for round_ in range(ROUNDS):
        order = rng.permutation(n)
        for number, size in enumerate(sizes):
            # The uncut set is the same in every round.
            if number == 0 and round_ > 0:
                continue
            share = 1.0 if number == 0 else 1 / ROUNDS
            for part in range(number + 1):
                rows = order[part * size : (part + 1) * size]
                distance, own = _distance(features[rows], centre, factor)
                distances[number] += share * distance / (number + 1)
                contributions_N[rows] += share * intercept[number] * own / (number + 1)
    return Extrapolation(
        value=float(intercept @ distances),
        stderr=float(np.sqrt((contributions_N**2).sum())),
        slope=float(gradient @ distances),
        sizes=tuple(int(size) for size in sizes),
        distances=tuple(float(distance) for distance in distances),
    )


def _line(x: Floats) -> tuple[Floats, Floats]:
    """What the points of a least-squares line weigh in its value at 0 and in its slope."""
    slope = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    return 1 / len(x) - x.mean() * slope, slope


def _distance(features: Features, centre: Floats, factor: Floats) -> tuple[float, Floats]:
    return distance_to_factor(features, centre, factor), frechet_contributions(features, centre, factor)
