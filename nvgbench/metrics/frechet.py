"""The Fréchet distance between two Gaussians (Dowson and Landau 1982; FID: Heusel et al. 2017, section 2).

d² = |mu1 - mu2|² + tr(sigma1) + tr(sigma2) - 2 tr((sigma1 sigma2)^(1/2))

With sigma1 = A Aᵀ and sigma2 = B Bᵀ the last trace is the sum of the singular values of Aᵀ B. The singular values of a product
of factors keep full precision where the square root of a product of covariances loses half of the digits, and a factor may have
any number of columns: for fewer images than features the centred features are a factor themselves (the Gram route).
Shape letters: N images, D features, r rank.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.linalg import bandwidth
from scipy.linalg.lapack import dsygst

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import Features, Floats, as_feature_pair
from nvgbench.metrics.moments import Moments

_DOUBT = 1e-9
"""How much of the traces rounding may move before the slower, sharper decomposition is taken."""


def frechet_distance(mu1: Any, sigma1: Any, mu2: Any, sigma2: Any) -> float:
    """Squared Fréchet distance of two Gaussians given by their moments.

    Args:
        mu1, mu2: means ``[D]``.
        sigma1, sigma2: covariances ``[D, D]``, symmetric and positive semi-definite up to rounding; they may be singular.

    Returns:
        The distance, at least 0, in squared units of the features.

    Raises:
        InputError: shapes that do not fit, NaN or infinity, a matrix that is no covariance.
    """
    mean1, factor1, trace1 = _checked_gaussian(mu1, sigma1, "first")
    mean2, factor2, trace2 = _checked_gaussian(mu2, sigma2, "second")
    if mean1.shape != mean2.shape:
        raise InputError(f"the Gaussians have {len(mean1)} and {len(mean2)} features; use one extractor")
    return _distance(mean1 - mean2, trace1 + trace2, factor1, factor2)


def frechet_from_features(x: Any, y: Any) -> float:
    """Squared Fréchet distance between the Gaussians fitted to two sets of features (ddof 1).

    Args:
        x: features ``[N, D]`` of one set, at least two rows.
        y: features ``[M, D]`` of the other.

    Raises:
        InputError: not matrices, fewer than two rows, different widths, NaN or infinity.
    """
    first, second = as_feature_pair(x, y, rows=2)
    return distance_to_factor(first, *gaussian_of(second))


def gaussian_of(features: Features) -> tuple[Floats, Floats]:
    """Mean ``[D]`` and a factor of the covariance ``[D, r]`` of a set, for everything that is held against it."""
    return features.mean(axis=0, dtype=np.float64), factor_of_features(features)


def distance_to_factor(features: Features, centre: Floats, factor: Floats) -> float:
    """Squared Fréchet distance of the Gaussian fitted to ``features`` ``[N, D]`` from N(``centre``, ``factor`` ``factor``ᵀ).

    The trace of the root is taken from the eigenvalues of the smaller product, three times as fast as singular values, where
    what rounding can do to the small ones is below 1e-9 of the traces, and else from the singular values.
    """
    n, mean = len(features), features.mean(axis=0, dtype=np.float64)
    shift, reference_trace = mean - centre, _sum_of_squares(factor)
    if n <= features.shape[1]:
        own = factor_of_features(features)
        product = own.T @ factor
        trace = _sum_of_squares(own) + reference_trace
        gram = product @ product.T if n <= factor.shape[1] else product.T @ product
        roots, doubt = _sum_of_roots(gram)
        if doubt > _DOUBT * trace:
            roots = float(np.linalg.svd(product, compute_uv=False).sum())
        return max(float(shift @ shift) + trace - 2 * roots, 0.0)
    covariance = Moments.of(features).covariance
    trace = float(np.trace(covariance)) + reference_trace
    roots, doubt = _sum_of_roots(_congruence(covariance, factor))
    if doubt > _DOUBT * trace:
        return _distance(shift, trace, factor_of_covariance(covariance), factor)
    return max(float(shift @ shift) + trace - 2 * roots, 0.0)


def factor_of_features(features: Features) -> Floats:
    """A matrix A ``[D, r]`` with A Aᵀ the covariance of ``features`` ``[N, D]``, r at most min(N, D)."""
    if len(features) <= features.shape[1]:
        deviations = features - features.mean(axis=0, dtype=np.float64)
        deviations /= np.sqrt(len(features) - 1)
        return deviations.T
    covariance = Moments.of(features).covariance
    try:
        lower = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    except np.linalg.LinAlgError:
        return factor_of_covariance(covariance)
    pivots = np.diagonal(lower)
    # A fifth of the time, but it does not show the rank; so only where the matrix is far from singular.
    return lower if pivots.min() > 1e-4 * pivots.max() else factor_of_covariance(covariance)


def factor_of_covariance(sigma: Floats) -> Floats:
    """A matrix A ``[D, r]`` with A Aᵀ = ``sigma``, r its numerical rank.

    Eigenvalues below D · eps · the largest are rounding noise of a singular matrix; kept, each would add the square root of
    that noise to the trace.

    Raises:
        InputError: an eigenvalue is clearly negative.
    """
    values, vectors = np.linalg.eigh(sigma)
    largest = max(float(values[-1]), 0.0)
    if values[0] < -1e-6 * max(largest, np.finfo(np.float64).tiny):
        raise InputError(f"not a covariance: its smallest eigenvalue is {values[0]:.3g}, expected at least 0")
    kept = values > largest * len(sigma) * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])


def _congruence(covariance: Floats, factor: Floats) -> Floats:
    """The lower triangle of ``factor``ᵀ ``covariance`` ``factor`` ``[r, r]``; of a triangular factor in a third of the time."""
    if factor.shape != covariance.shape or bandwidth(factor)[1] > 0:
        return factor.T @ covariance @ factor
    # LAPACK reads matrices by columns: to it the rows of a lower triangle are the columns of an upper one.
    product, _ = dsygst(covariance.T, factor.T, itype=2, lower=0)
    return product.T


def _sum_of_squares(matrix: Floats) -> float:
    return float(np.linalg.norm(matrix) ** 2)  # without a copy of the matrix


def _sum_of_roots(gram: Floats) -> tuple[float, float]:
    """The sum of the roots of a matrix' eigenvalues, and how far independent rounding errors may have moved it.

    Only the lower triangle of the matrix is read.
    """
    values = np.linalg.eigvalsh(gram)
    noise = 8 * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    roots = np.sqrt(values.clip(min=0))
    errors = np.minimum(noise / np.maximum(roots, np.finfo(np.float64).tiny), np.sqrt(noise))
    return float(roots.sum()), float(np.sqrt((errors**2).sum()))


def _distance(shift: Floats, traces: float, factor1: Floats, factor2: Floats) -> float:
    """The distance from the difference of means, the sum of both traces and a factor of each covariance."""
    if factor1.shape[1] and factor2.shape[1]:
        cross = float(np.linalg.svd(factor1.T @ factor2, compute_uv=False).sum())
    else:
        cross = 0.0
    return max(float(shift @ shift) + traces - 2 * cross, 0.0)


def _checked_gaussian(mu: Any, sigma: Any, which: str) -> tuple[Floats, Floats, float]:
    """Mean, factor and trace of a covariance that has been looked at."""
    mean, covariance = np.asarray(mu, dtype=np.float64), np.asarray(sigma, dtype=np.float64)
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)) or len(mean) == 0:
        raise InputError(f"{which} Gaussian: got shapes {mean.shape} and {covariance.shape}; expected [D] and [D, D]")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise InputError(f"{which} Gaussian: NaN or infinity in its moments; look at the features they come from")
    scale = float(np.abs(covariance).max())
    if not np.allclose(covariance, covariance.T, rtol=0, atol=1e-6 * scale):
        raise InputError(f"{which} Gaussian: its covariance is not symmetric")
    return mean, factor_of_covariance((covariance + covariance.T) / 2), float(np.trace(covariance))
