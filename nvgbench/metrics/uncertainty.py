"""Intervals that say how far a score would move with other images from the same model.

The reference stays as it is: it is part of the protocol. Resampled scores are biased (a bootstrap set has fewer distinct
images), so the spread around their own mean is laid around the score: [s - (q_high - mean), s - (q_low - mean)]. What such an
interval covers is the expected score at this number of images, which is what equal-N comparisons compare.
Shape letters: N images, M reference images, D features, R replicates, h remembered hits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import Floats, as_pair
from nvgbench.metrics.frechet import factor_of_features, transport_map
from nvgbench.metrics.inception_score import SPLIT_SIZE, split_bounds, weighted_scores
from nvgbench.metrics.moments import Moments
from nvgbench.types import Interval

LEVEL = 0.95
RESAMPLED_DIMENSIONS = 512
"""Up to so many features moments are resampled; above, one replicate costs seconds and the linearised distance is used."""


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
    """Interval of the mean of one number an image (``[N]``): PSNR, density …; for shares see `share_interval`."""
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


def hits_interval(value: float, hits_Mh: NDArray[np.int64], n: int, replicates: int, seed: int) -> Interval:
    """Interval of recall or coverage from the hits of `nvgbench.metrics.prdc.NeighbourScores` (radii held fixed)."""
    drawn_RN = resampling_weights(n, replicates, seed) > 0
    known_Mh = hits_Mh >= 0
    shares = np.array([(drawn_N[hits_Mh] & known_Mh).any(axis=1).mean() for drawn_N in drawn_RN])
    return centred_interval(value, shares, f"{_bootstrap(replicates)}, radii fixed")


def inception_score_interval(
    value: float, log_p: Floats, replicates: int, seed: int, *, splits: int | None = None, split_size: int = SPLIT_SIZE
) -> Interval:
    """Interval of an Inception Score from log-probabilities ``[N, K]`` in the order in which they are split."""
    parts = split_bounds(len(log_p), splits, split_size)
    scores = np.zeros(replicates)
    for number, (low, high) in enumerate(parts):
        weights_RN = resampling_weights(high - low, replicates, seed + number).astype(np.float64)
        scores += weighted_scores(log_p[low:high], weights_RN) / len(parts)
    return centred_interval(value, scores, f"{_bootstrap(replicates)} inside each split")


def frechet_interval(value: float, x: Any, y: Any, replicates: int, seed: int) -> Interval:
    """Interval of the Fréchet distance ``value`` between generated features ``x`` ``[N, D]`` and the reference's ``y``.

    Up to 512 features: bootstrap of the generated set's moments. Above: standard error of the linearised distance
    (infinitesimal jackknife), from one decomposition.

    Raises:
        InputError: as `nvgbench.metrics.frechet.frechet_from_features`.
    """
    generated, reference = as_pair(x, y, rows=2)
    factor, centre = factor_of_features(reference), reference.mean(axis=0)
    if generated.shape[1] > RESAMPLED_DIMENSIONS:
        return normal_interval(value, frechet_stderr(generated, centre, factor), "infinitesimal jackknife")
    trace = float((factor**2).sum())
    shifted = generated - centre
    scores = [
        _resampled_distance(shifted, weights, factor, trace) for weights in resampling_weights(len(generated), replicates, seed)
    ]
    return centred_interval(value, np.array(scores), _bootstrap(replicates))


def frechet_stderr(generated: Floats, centre: Floats, factor: Floats) -> float:
    """Standard error of the Fréchet distance to the Gaussian with mean ``centre`` and covariance ``factor`` ``factor``ᵀ.

    The influence of image i is 2 (mu - centre)·d_i + d_iᵀ (I - T) d_i with d_i = x_i - mu and T the transport map from the
    generated Gaussian to the reference.
    """
    moments = Moments.of(generated)
    deviations = generated - moments.mean
    change = transport_map(moments.covariance, factor)
    curvature = (deviations**2).sum(axis=1) - ((deviations @ change) * deviations).sum(axis=1)
    influence = 2 * deviations @ (moments.mean - centre) + curvature
    return float(influence.std(ddof=1) / np.sqrt(len(generated)))


def _resampled_distance(shifted: Floats, weights: NDArray[np.int64], factor: Floats, trace: float) -> float:
    """Fréchet distance of a weighted set, whose features are relative to the mean of the reference."""
    n = len(shifted)
    drawn = weights > 0
    rows, counts = shifted[drawn], weights[drawn].astype(np.float64)
    mean = counts @ rows / n
    deviations = (rows - mean) * np.sqrt(counts / (n - 1))[:, None]
    # Singular values of (deviations @ factor) by the eigenvalues of the smaller Gram matrix: the spread needs no more digits.
    product = deviations @ factor
    gram = product.T @ product if product.shape[0] > product.shape[1] else product @ product.T
    cross = np.sqrt(np.linalg.eigvalsh(gram).clip(min=0)).sum()
    return float(mean @ mean + (deviations**2).sum() + trace - 2 * cross)


def _bootstrap(replicates: int) -> str:
    return f"bootstrap over generated images, {replicates} replicates"
