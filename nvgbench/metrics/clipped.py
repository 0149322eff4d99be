"""Clipped density and clipped coverage: fidelity and coverage as an equivalent share of good samples.

Salvy et al. (2025), "Enhanced Generative Model Evaluation with Clipped Density and Coverage", arXiv 2507.01761, k = 5. Both
fall linearly with the share of bad samples, which the large balls of the reference's outliers cannot hide. Balls are closed.
The distances are those of precision and recall (`nvgbench.metrics.neighbours`). Coverage needs fewer than about ten samples per
reference image: with more, the balls are full whatever the share of good samples, and the calibration has no slope.
Shape letters: N generated, M reference images, k neighbours, h hits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import betabinom

from nvgbench.metrics.arrays import Floats
from nvgbench.metrics.uncertainty import (
    Contributions,
    contributions_to_mean,
    equal_terms_interval,
    leave_one_out,
)


def clipped_radii(square_M: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared radii of clipped density ``[M]``: those of the k-th neighbours, but none above their median."""
    radius_M = np.sqrt(square_M.astype(np.float64))
    median = np.median(radius_M)
    return np.where(radius_M <= median, square_M, median**2).astype(np.float32)


def reference_density(square_Mk: NDArray[np.float32], index_Mk: NDArray[np.int64], radius_M: NDArray[np.float32]) -> float:
    """Clipped density of the reference images themselves, each among the balls of the others, before normalisation.

    Args:
        square_Mk: squared distances of every reference image to its k nearest others.
        index_Mk: their indices.
        radius_M: see `clipped_radii`.
    """
    m, k = index_Mk.shape
    balls_M = np.bincount(index_Mk[square_Mk <= radius_M[:, None]], minlength=m)
    return float(np.minimum(balls_M / k, 1).mean())


def clipped_density(balls_N: NDArray[np.int64], reference: float, k: int) -> Contributions:
    """min(mean over samples of min(balls / k, 1) / the same mean over the reference, 1).

    Args:
        balls_N: number of balls of `clipped_radii` around each generated image.
        reference: see `reference_density`.
        k: neighbours.
    """
    terms_N = np.minimum(balls_N / k, 1) / reference
    value = min(float(terms_N.mean()), 1.0)
    return Contributions(
        value=value,
        parts=contributions_to_mean(terms_N),
        degenerate=equal_terms_interval(value, len(terms_N), reach=1 / reference),
    )


def clipped_coverage(hits_Mh: NDArray[np.int64], n: int, k: int) -> Contributions:
    """The share of good samples at which the mean over reference balls of min(samples inside / k, 1) is expected.

    Args:
        hits_Mh: the nearest generated images in each reference image's ball, up to k + 1, padded with -1.
        n: number of generated images.
        k: neighbours.
    """
    m = len(hits_Mh)
    hit_Mh = hits_Mh >= 0
    count_M = hit_Mh.sum(axis=1)
    share = float(np.minimum(count_M / k, 1).mean())
    # Leaving an image out empties a ball by 1 / k unless more than k remain.
    matters_Mh = hit_Mh & (count_M <= k)[:, None]
    without_N = share - np.bincount(hits_Mh[matters_Mh], minlength=n) / (k * m)
    # Beyond n good samples too, so that images still contribute to a score that chance puts above 1.
    samples = np.arange(2 * n + 1)
    expected = expected_coverage(samples, m, k)

    def calibrated(found: Floats) -> Floats:
        return np.asarray(np.interp(found, expected, samples / n))

    value = min(float(calibrated(np.array(share))), 1.0)
    return Contributions(
        value=value,
        parts=leave_one_out(calibrated(without_N)),
        # Each bad sample among others lowers the score by its share, whatever the balls hold now.
        degenerate=equal_terms_interval(value, n, reach=1.0),
    )


def expected_coverage(samples: NDArray[np.int64], m: int, k: int) -> Floats:
    """Expected mean of min(samples inside / k, 1) for each number of good samples, the others outside of all balls.

    The ball that reaches to the k-th of M - 1 others holds a share of the distribution that follows Beta(k, M - k), whatever
    the distribution is, so the number of good samples inside is beta-binomial.
    """
    missing = sum((k - inside) * betabinom.pmf(inside, samples, k, m - k) for inside in range(k))
    return 1 - missing / k
