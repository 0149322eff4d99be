"""What each generated image adds to the error of a score, by leaving it out: exact, and from one pass for all images.

A contribution c_i is sqrt((N - 1) / N) (mean of the scores without an image - score without image i). The sum of their squares
is the squared standard error (Quenouille 1956, Tukey 1958; for functions such as recall, Efron and Stein 1981: cautious rather
than too small). Contributions of two scores of paired images may be subtracted image by image.

A bootstrap would draw images twice. For the Fréchet distance with fewer than about twenty images a feature such a set has
another shape than a fresh one, and the interval becomes two to five times too wide; leaving one out does not do that.
Shape letters: N images, D features, K classes, r rank, b a block of images, t nodes of a quadrature.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from nvgbench.metrics.arrays import Features, Floats, as_features, row_parts
from nvgbench.metrics.inception_score import SPLIT_SIZE, split_bounds
from nvgbench.metrics.moments import Moments

_STEP = 0.25
"""Step of the trapezoidal rule in log t; its error falls exponentially and is below 1e-7 of the score here."""
_REACH = 18.0
"""How far the rule goes below the smallest and above the largest scale, in log t: what is cut off is below exp(-18)."""
_BLOCK = 1024


def standard_error(contributions_N: Floats) -> float:
    """The standard error of a score from the contributions of its images."""
    return float(np.sqrt((contributions_N**2).sum()))


def contributions_without(scores_N: Floats) -> Floats:
    """Contributions ``[N]`` from the score without each image."""
    n = len(scores_N)
    return np.sqrt((n - 1) / n) * (scores_N.mean() - scores_N)


def mean_contributions(values: Any) -> Floats:
    """Contributions to the mean of one number an image ``[N]``, at least two images."""
    numbers = np.asarray(values, dtype=np.float64)
    n = len(numbers)
    assert n > 1
    return (numbers - numbers.mean()) / np.sqrt(n * (n - 1))


def hits_contributions(hits_Mh: NDArray[np.int64], n: int) -> Floats:
    """Contributions ``[N]`` to recall or coverage, the share of reference images that at least one generated image hits.

    Leaving an image out loses the reference images that it alone hits; the radii of recall stay as they are. (Were they
    to grow with each image left out, the error would come out 1.5 times too large.) With numbers of hits that vary as Poisson
    numbers of mean m do, two images of one neighbourhood count m where 1 - exp(-m) = m - m²/2 + … is right; half of the second
    term, counted by pairs with the same two hits, is taken off, which errs on the wide side.

    Args:
        hits_Mh: hits of each reference image, -1 where there are fewer; see `nvgbench.metrics.prdc.NeighbourScores`.
        n: number of generated images.
    """
    count_M = (hits_Mh >= 0).sum(axis=1)
    alone = hits_Mh[count_M == 1].max(axis=1)
    contributions_N = contributions_without(-np.bincount(alone, minlength=n) / len(hits_Mh))
    two = np.sort(hits_Mh[count_M == 2], axis=1)[:, -2:]
    _, sizes = np.unique(two, axis=0, return_counts=True)
    variance = (contributions_N**2).sum()
    if variance == 0:
        return contributions_N
    kept = 1 - (sizes**2).sum() / 4 / len(hits_Mh) ** 2 / variance
    return contributions_N * np.sqrt(max(kept, 0.5))


def inception_contributions(log_p: Floats, *, splits: int | None = None, split_size: int = SPLIT_SIZE) -> Floats:
    """Contributions to an Inception Score.

    Args:
        log_p: log-probabilities ``[N, K]`` in the order in which they are split.
        splits, split_size: as `nvgbench.metrics.inception_score.inception_score`.
    """
    bounds = split_bounds(len(log_p), splits, split_size)
    found = [_split_contributions(log_p[low:high]) / len(bounds) for low, high in bounds]
    return np.concatenate(found)


def frechet_contributions(generated: Any, centre: Floats, factor: Floats) -> Floats:
    """Contributions to the Fréchet distance to the Gaussian N(``centre``, ``factor`` ``factor``ᵀ), for any N and D.

    Args:
        generated: features ``[N, D]``, at least three rows.
        centre: mean of the reference ``[D]``.
        factor: a factor of its covariance ``[D, r]``, see `nvgbench.metrics.frechet.factor_of_features`.

    Raises:
        InputError: not a matrix, fewer than three rows, another width, NaN or infinity.
    """
    return contributions_without(frechet_without(generated, centre, factor))


def frechet_without(generated: Any, centre: Floats, factor: Floats) -> Floats:
    """The Fréchet distance without each image ``[N]``; arguments as `frechet_contributions`.

    Leaving out image i takes c p_i p_iᵀ off the scatter S of the projected deviations p = (x - mean) factor, c = N / (N - 1).
    With sqrt(a) = 1/π ∫ log(1 + a / t²) dt the sum of the singular values falls by
    -1/π ∫ log(1 - c p_iᵀ (S + t²)⁻¹ p_i) dt, which needs one decomposition of S for all images.
    """
    features = as_features(generated, "generated features", rows=3, columns=len(centre))
    n = len(features)
    mean = features.mean(axis=0, dtype=np.float64)
    values, basis = _scatter(features, mean, factor)
    squares, losses = [], []
    # Equal images have no axes: whatever the bounds of the integral are, it is zero.
    lowest, highest = (values[0], values[-1]) if len(values) else (1.0, 1.0)
    nodes = np.exp(np.arange(np.log(lowest) / 2 - _REACH, np.log(highest) / 2 + _REACH, _STEP))
    large = nodes**2 > highest
    remains_rt = nodes[~large] ** 2 / (values[:, None] + nodes[~large] ** 2)
    goes_rt = values[:, None] / (values[:, None] + nodes[large] ** 2)
    shifts = []
    for rows in row_parts(features, _BLOCK):
        deviations = rows - mean
        squares.append((deviations**2).sum(axis=1))
        shifts.append(((mean - centre - deviations / (n - 1)) ** 2).sum(axis=1))
        leverage_br = ((deviations @ basis) ** 2) / values
        # Where the images span no more than their own number, nothing of an image is left without it.
        rest_b = (1 - n / (n - 1) * leverage_br.sum(axis=1)).clip(min=0) if n - 1 > len(values) else np.zeros(len(rows))
        # The logarithm of 1 - something, written for each end so that no digits are lost.
        small_b = np.log(rest_b[:, None] + n / (n - 1) * (leverage_br @ remains_rt)) @ nodes[~large]
        large_b = np.log1p(-n / (n - 1) * (leverage_br @ goes_rt)) @ nodes[large]
        losses.append(-(small_b + large_b) * _STEP / np.pi)
    square_N = np.concatenate(squares)
    trace_N = (square_N.sum() - n / (n - 1) * square_N) / (n - 2) + (factor**2).sum()
    cross_N = (np.sqrt(values).sum() - np.concatenate(losses)) / np.sqrt(n - 2)
    return np.concatenate(shifts) + trace_N - 2 * cross_N


def _scatter(features: Features, mean: Floats, factor: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues ``[r]`` above rounding of the scatter of (x - mean) factor, and what carries x - mean onto its axes."""
    n = len(features)
    if n <= factor.shape[1]:
        projected = (features - mean) @ factor
        values, vectors = np.linalg.eigh(projected @ projected.T)
        kept = values > values[-1] * n * np.finfo(np.float64).eps
        values = values[kept]
        return values, factor @ (projected.T @ (vectors[:, kept] / np.sqrt(values)))
    scatter = Moments.of(features).covariance * (n - 1)
    values, vectors = np.linalg.eigh(factor.T @ scatter @ factor)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    return values[kept], factor @ vectors[:, kept]


def _split_contributions(log_p: Floats) -> Floats:
    """Contributions to the score of one split."""
    n = len(log_p)
    if n == 1:  # one image scores 1 whatever it shows
        return np.zeros(1)
    p = np.exp(log_p)
    negative_entropy_N = (p * log_p).sum(axis=1)
    marginal_NK = (p.sum(axis=0) - p).clip(min=0) / (n - 1)
    without_N = (negative_entropy_N.sum() - negative_entropy_N) / (n - 1)
    return contributions_without(np.exp(without_N - xlogy(marginal_NK, marginal_NK).sum(axis=1)))
