"""FID∞: the Fréchet distance extrapolated to infinitely many generated images (Chong and Forsyth 2020, section 3).

Its bias falls as 1 / N. The images are cut into 1, 2, … equal parts, a line is fitted to the mean distance of the parts of each
cut against one over their size, and the line's value at 0 is the estimate. Every image counts once in each cut, so the error
follows from what each image contributes to the line, overlaps of the cuts included. The reference is held fixed.
Shape letters: N images, D features, r rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import FeatureMatrix, Floats, as_features
from nvgbench.metrics.frechet import distance_to_factor, factor_of_covariance, frechet_contributions, gaussian_of
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.uncertainty import JACKKNIFE, Contributions
from nvgbench.results.scores import INCEPTION, SCORES

CUTS = 4
"""The images are cut into 1 to 4 parts."""
ROUNDS = 4
"""Number of random orders that are cut."""
CHEAP_FEATURES = 512
"""Up to this number of features an extrapolation takes seconds."""
IMAGES_PER_FEATURE = 2
"""Images per feature that the smallest part needs; below, the distance does not follow 1 / N yet."""


@dataclass(frozen=True)
class Extrapolation:
    """An extrapolated distance.

    Attributes:
        value: the distance for infinitely many images; it may fall below 0 by its error.
        parts: contribution of each image to the error, float64 ``[N]``.
        slope: of the distance against 1 / N.
        sizes: images per part of each cut.
        distances: mean distance of the parts of each cut.
    """

    value: float
    parts: Floats
    slope: float
    sizes: tuple[int, ...]
    distances: tuple[float, ...]


class ExtrapolatedFrechetDistance:
    """FID∞, if there are enough images for the line. Beyond `CHEAP_FEATURES` features it takes minutes and is computed only if
    the inputs ask for thoroughness.
    """

    scores = (SCORES["FID∞"],)
    fewest_images = 3

    def compute(self, inputs: MetricInputs) -> Mapping[str, Contributions]:
        x = inputs.generated.features_ND
        n, dimension = x.shape
        if n < fewest_images(dimension) or (dimension > CHEAP_FEATURES and not inputs.thorough):
            return {}
        if inputs.moments is not None and inputs.extractor == INCEPTION:
            centre, factor = inputs.moments[0], factor_of_covariance(inputs.moments[1])
        else:
            centre, factor = gaussian_of(inputs.reference.features_ND)
        line = extrapolated_frechet(x, centre, factor, seed=inputs.seed)
        sizes = ", ".join(map(str, line.sizes))
        limit = Contributions(
            value=line.value,
            parts=line.parts,
            method=f"{JACKKNIFE} of the line",
            note=f"line over 1 / N through {sizes} images, slope {line.slope:.4g}, seed {inputs.seed}",
        )
        return {"FID∞": limit}


def fewest_images(dimension: int) -> int:
    """The number of images that an extrapolation of ``dimension`` features needs."""
    return CUTS * IMAGES_PER_FEATURE * dimension


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
            # The whole set is the same in every round.
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
        parts=contributions_N,
        slope=float(gradient @ distances),
        sizes=tuple(int(size) for size in sizes),
        distances=tuple(float(distance) for distance in distances),
    )


def _line(x: Floats) -> tuple[Floats, Floats]:
    """Weights of the points of a least-squares line in its value at 0 and in its slope."""
    slope = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
    return 1 / len(x) - x.mean() * slope, slope


def _distance(features: FeatureMatrix, centre: Floats, factor: Floats) -> tuple[float, Floats]:
    return distance_to_factor(features, centre, factor), frechet_contributions(features, centre, factor)
