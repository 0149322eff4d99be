"""The error of the Fréchet distance between images and their own reconstructions: both sets change when the images do.

Other images would change both sets, and good reconstructions in the same way as their originals. Leaving out one set's images
while the other stays as it is ignores that: in simulation it stated from an eighth of the true error (nearly grey
reconstructions) to 9 times as much (nearly perfect ones). The infinitesimal jackknife (Jaeckel 1972) takes the derivative of
the distance with respect to the weight of each pair instead. With T the optimal transport map between the two Gaussians, which
is the derivative of the trace of the root, the derivative of pair i, deviating by a_i and b_i from the means, is

2 (mu1 - mu2)ᵀ (a_i - b_i) + N / (N - 1) (|a_i|² - a_iᵀ T a_i + |b_i|² - b_iᵀ T⁻¹ b_i), less its mean over all pairs

Shape letters: N pairs, D features, r rank, b a block of pairs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nvgbench.metrics.arrays import FeatureMatrix, Floats, as_feature_pair, row_parts
from nvgbench.metrics.frechet import distance_to_factor, factor_of_covariance, factor_of_features, gaussian_of
from nvgbench.metrics.moments import Moments
from nvgbench.metrics.uncertainty import Contributions, contributions_to_mean

METHOD = "infinitesimal jackknife over pairs of images"
_BLOCK = 1024
_ROUNDING = 1e-12
"""Derivatives below this share of the largest squared deviation are rounding errors: exact copies have no error."""


def frechet_of_pairs(made: Any, originals: Any) -> Contributions:
    """The squared Fréchet distance of reconstructions from their originals, and what each pair contributes to its error.

    Args:
        made: features ``[N, D]`` of the reconstructions, at least three rows.
        originals: features ``[N, D]`` of the images; row i of both belongs to image i.

    Raises:
        InputError: not matrices, fewer than three rows, different widths, NaN or infinity.
    """
    x, y = as_feature_pair(made, originals, rows=3)
    assert len(x) == len(y), "rows of both sets belong to the same images"
    value = distance_to_factor(x, *gaussian_of(y))
    return Contributions(value=value, parts=contributions_to_mean(_derivatives(x, y)), method=METHOD)


def _derivatives(x: FeatureMatrix, y: FeatureMatrix) -> Floats:
    """The derivative of the distance with respect to the weight of each pair ``[N]``, up to a constant."""
    mean_x, mean_y = (features.mean(axis=0, dtype=np.float64) for features in (x, y))
    factor_x, factor_y = _factor(x), _factor(y)
    left, singular, right = np.linalg.svd(factor_x.T @ factor_y, full_matrices=False)
    # a_iᵀ T a_i is the squared length of a_i, whitened and turned to the axes that both sets share.
    axes_x, axes_y = (turn * np.sqrt(singular) for turn in (left, right.T))
    found, largest = [], 0.0
    for first, rows_x, rows_y in zip(range(0, len(x), _BLOCK), row_parts(x, _BLOCK), row_parts(y, _BLOCK), strict=True):
        a_bD, b_bD = rows_x - mean_x, rows_y - mean_y
        squares_b = _squares(a_bD) + _squares(b_bD)
        moved_b = 2 * (a_bD - b_bD) @ (mean_x - mean_y)
        shared_b = _squares(_whitened(a_bD, factor_x, first, len(x)) @ axes_x)
        shared_b += _squares(_whitened(b_bD, factor_y, first, len(y)) @ axes_y)
        found.append(moved_b + len(x) / (len(x) - 1) * (squares_b - shared_b))
        largest = max(largest, float(squares_b.max()))
    derivative_N = np.concatenate(found)
    derivative_N -= derivative_N.mean()
    derivative_N[np.abs(derivative_N) <= _ROUNDING * largest] = 0.0
    return derivative_N


def _factor(features: FeatureMatrix) -> Floats:
    """A factor ``[D, r]`` of the covariance: the scaled deviations, or orthogonal columns if there are more images than D."""
    if len(features) <= features.shape[1]:
        return factor_of_features(features)
    return factor_of_covariance(Moments.of(features).covariance)


def _whitened(deviations_bD: Floats, factor: Floats, first: int, n: int) -> Floats:
    """Coordinates ``[b, r]`` of deviations in terms of the columns of `_factor`; row ``first`` + i of n is the i-th."""
    if n <= len(factor):  # the deviations are the columns, but for their scale
        return np.sqrt(n - 1) * np.eye(len(deviations_bD), n, k=first)
    return deviations_bD @ (factor / (factor**2).sum(axis=0))


def _squares(rows: Floats) -> Floats:
    return np.einsum("ij,ij->i", rows, rows)
