"""Intervals that say how far a score would move with other images from the same model.

The reference stays as it is: it is part of the protocol. What such an interval covers is the expected score at this number of
images, which is what equal-N comparisons compare. Scores get the jackknife's standard error, shares of images Wilson's
interval, medians and means of reconstructions a bootstrap. Resampled scores are biased, so their spread around their own
mean is laid around the score: [s - (q_high - mean), s - (q_low - mean)]. What the intervals cover is measured in the tests.
Shape letters: N images, M reference images, D features, R replicates, h remembered hits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import Floats
from nvgbench.metrics.inception_score import SPLIT_SIZE
from nvgbench.metrics.jackknife import (
    frechet_contributions,
    hits_contributions,
    inception_contributions,
    mean_contributions,
    standard_error,
)
from nvgbench.metrics.recall_error import LEFT_OUT
from nvgbench.types import Interval

LEVEL = 0.95
JACKKNIFE = "jackknife over generated images"


def resampling_weights(n: int, replicates: int, seed: int) -> NDArray[np.int64]:
    """How often each of n images is drawn in each replicate of a bootstrap: multinomial counts ``[R, N]``.

    Raises:
        InputError: no images or no replicates.
    """
    if n < 1 or replicates < 1:
        raise InputError(f"a bootstrap of {n} images with {replicates} replicates; expected at least 1 of each")
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=replicates)


def centred_interval(value: float, replicates: Floats, method: str) -> Interval:
    """The 95 % interval around ``value`` from resampled scores ``[R]``."""
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - replicates.mean()
    return Interval(value - float(high), value - float(low), LEVEL, "sampling", method)


def normal_interval(value: float, stderr: float, method: str) -> Interval:
    """value ± 1.96 standard errors."""
    return Interval(value - 1.959964 * stderr, value + 1.959964 * stderr, LEVEL, "sampling", method)


def mean_interval(values: Any, replicates: int, seed: int) -> Interval:
    """Interval of the mean of one number an image (``[N]``): PSNR, SSIM …; for shares see `share_interval`."""
    numbers = np.asarray(values, dtype=np.float64)
    weights = resampling_weights(len(numbers), replicates, seed)
    return centred_interval(float(numbers.mean()), weights @ numbers / len(numbers), _bootstrap(replicates))


def share_interval(hits: Any) -> Interval:
    """Wilson's interval of a share from one 0 or 1 an image; unlike a bootstrap it does not shrink to a point at 0 and 1."""
    numbers = np.asarray(hits, dtype=np.float64)
    if len(numbers) < 1:
        raise InputError("a share of no images; expected at least 1")
    n, share, z = len(numbers), float(numbers.mean()), 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = max(float(centre - reach), 0.0), min(float(centre + reach), 1.0)
    # Rounding must not put a share of exactly 0 or 1 outside.
    return Interval(min(low, share), max(high, share), LEVEL, "sampling", "Wilson")


def coverage_interval(value: float, hits_Mh: NDArray[np.int64], n: int) -> Interval:
    """Interval of coverage from the hits of `nvgbench.metrics.prdc.NeighbourScores`.

    Where no image alone reaches a reference image (a score of 0, or a few that many images reach) leaving one out changes
    nothing, which says nothing of other images; then it is Wilson's, as if reference images were reached one by one.
    """
    contributions_N = hits_contributions(hits_Mh, n)
    if not contributions_N.any():
        return share_interval(hits_Mh[:, 0] >= 0)
    return jackknife_interval(value, contributions_N)


def recall_interval(value: float, contributions_R: Floats, reached_M: Floats) -> Interval:
    """Interval of recall from `nvgbench.metrics.prdc.NeighbourScores`; Wilson's where no subset of the images changes it."""
    if not contributions_R.any():
        return share_interval(reached_M)
    method = f"jackknife over generated images, {LEFT_OUT:.0%} left out at once, {len(contributions_R)} subsets"
    return normal_interval(value, standard_error(contributions_R), method)


def density_interval(terms_N: Floats) -> Interval:
    """Interval of density from each image's term of it.

    Where all terms are equal (no image in any ball, or one picture again and again) their standard error is 0, which says
    nothing of other images. Then the share of other images with another term may be up to Wilson's limit of 0 in N, and such a
    term is taken to be 1 away, or as far as 0 is. For a density of 0 that is what a real image has on average: it lies in each
    of the M balls with probability k / M. Where images that lie in any ball lie in far more than k, the upper end is too low.
    """
    value = float(terms_N.mean())
    if terms_N.min() < terms_N.max():
        return normal_interval(value, standard_error(mean_contributions(terms_N)), JACKKNIFE)
    reach = share_interval(np.zeros(len(terms_N))).high * max(value, 1.0)
    method = "Wilson, share of images with another term"
    return Interval(max(value - reach, 0.0), value + reach, LEVEL, "sampling", method)


def inception_score_interval(
    value: float, log_p: Floats, *, splits: int | None = None, split_size: int = SPLIT_SIZE
) -> Interval:
    """Interval of an Inception Score from log-probabilities ``[N, K]`` in the order in which they are split."""
    return jackknife_interval(value, inception_contributions(log_p, splits=splits, split_size=split_size))


def frechet_interval(value: float, x: Any, centre: Floats, factor: Floats) -> Interval:
    """Interval of the Fréchet distance ``value`` between features ``x`` ``[N, D]`` and N(``centre``, ``factor`` ``factor``ᵀ).

    Raises:
        InputError: as `nvgbench.metrics.jackknife.frechet_contributions`.
    """
    return jackknife_interval(value, frechet_contributions(x, centre, factor))


def jackknife_interval(value: float, contributions_N: Floats) -> Interval:
    """Interval of a score from what each image contributes to its error (`nvgbench.metrics.jackknife`)."""
    return normal_interval(value, standard_error(contributions_N), JACKKNIFE)


def _bootstrap(replicates: int) -> str:
    return f"bootstrap over generated images, {replicates} replicates"
