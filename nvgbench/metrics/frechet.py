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

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import Floats, as_pair
from nvgbench.metrics.moments import Moments


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
    first, second = as_pair(x, y, rows=2)
    factor1, factor2 = factor_of_features(first), factor_of_features(second)
    traces = float((factor1**2).sum() + (factor2**2).sum())
    return _distance(first.mean(axis=0) - second.mean(axis=0), traces, factor1, factor2)


def factor_of_features(features: Floats) -> Floats:
    """A matrix A ``[D, r]`` with A Aᵀ the covariance of ``features`` ``[N, D]``, r at most min(N, D)."""
    if len(features) <= features.shape[1]:
        return (features - features.mean(axis=0)).T / np.sqrt(len(features) - 1)
    return factor_of_covariance(Moments.of(features).covariance)


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


def transport_map(sigma1: Floats, factor2: Floats) -> Floats:
    """The matrix T ``[D, D]`` that carries N(0, sigma1) onto N(0, B Bᵀ) at least cost, B = ``factor2`` (T sigma1 T = B Bᵀ).

    I - T is the derivative of the squared distance with respect to sigma1 (Takatsu 2011, on the span of sigma1).
    """
    values, vectors = np.linalg.eigh(factor2.T @ sigma1 @ factor2)
    kept = values > max(values[-1], 0.0) * len(values) * np.finfo(np.float64).eps
    half = factor2 @ vectors[:, kept] / values[kept] ** 0.25
    return half @ half.T


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
