"""The Fréchet distance between two Gaussians (Dowson and Landau 1982; FID: Heusel et al. 2017, section 2).

d² = |mu1 - mu2|² + tr(sigma1) + tr(sigma2) - 2 tr((sigma1 sigma2)^(1/2))

With sigma1 = A Aᵀ and sigma2 = B Bᵀ the last trace is the sum of the singular values of Aᵀ B. The singular values of a product
of factors keep full precision where the square root of a product of covariances loses half of the digits, and a factor may have
any number of columns: with fewer images than features, the centred features themselves are a factor (the Gram route).
Shape letters: N, M images, D features, r rank, b a block of images, t nodes of a quadrature.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.linalg import bandwidth
from scipy.linalg.lapack import dsygst

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import FeatureMatrix, Floats, as_feature_pair, as_features, row_parts
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.moments import Moments
from nvgbench.metrics.uncertainty import Contributions, leave_one_out
from nvgbench.results.scores import INCEPTION, SCORES

_DOUBT = 1e-9
"""Share of the traces that rounding may move before the slower, more exact decomposition is used."""
_STEP = 0.25
"""Step of the trapezoidal rule in log t; its error falls exponentially and is below 1e-7 of the score here."""
_REACH = 18.0
"""How far the rule extends below the smallest and above the largest scale, in log t; the rest is below exp(-18)."""
_BLOCK = 1024


def frechet_distance(mu1: Any, sigma1: Any, mu2: Any, sigma2: Any) -> float:
    """Squared Fréchet distance of two Gaussians given by their moments.

    Args:
        mu1, mu2: means ``[D]``.
        sigma1, sigma2: covariances ``[D, D]``, symmetric and positive semi-definite up to rounding; possibly singular.

    Returns:
        The distance, at least 0, in squared units of the features.

    Raises:
        InputError: shapes that do not fit, NaN or infinity, or a matrix that is not a covariance.
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


class FrechetDistance:
    """FID, or FD[extractor]: the distance between the Gaussians fitted to both sets, with its jackknife error."""

    scores = (SCORES["FID"],)
    fewest_images = 3

    def compute(self, inputs: MetricInputs) -> Mapping[str, Contributions]:
        x = inputs.generated.features_ND
        if inputs.moments is not None and inputs.extractor == INCEPTION:
            mean, covariance = inputs.moments
            own = Moments.of(x)
            value = frechet_distance(own.mean, own.covariance, mean, covariance)
            centre, factor, notes = mean, factor_of_covariance(covariance), ["moments stored with the reference"]
        else:
            centre, factor = gaussian_of(inputs.reference.features_ND)
            value, notes = distance_to_factor(x, centre, factor), []
        if (caution := small_sample_note(*x.shape)) is not None:
            notes.append(caution)
        return {"FID": Contributions(value=value, parts=frechet_contributions(x, centre, factor), note="; ".join(notes))}


def frechet_contributions(generated: Any, centre: Floats, factor: Floats) -> Floats:
    """Contribution of each image ``[N]`` to the error of the distance; arguments as `frechet_without`."""
    return leave_one_out(frechet_without(generated, centre, factor))


def small_sample_note(n: int, dimension: int) -> str | None:
    """A caution for covariances of fewer images than features; None otherwise."""
    return f"fewer images than features ({dimension}): strongly biased, compare equal n only" if n <= dimension else None


def frechet_without(generated: Any, centre: Floats, factor: Floats) -> Floats:
    """The Fréchet distance without each image ``[N]``, exactly and from one pass over all images.

    Leaving out image i subtracts c p_i p_iᵀ from the scatter S of the projected deviations p = (x - mean) factor, with
    c = N / (N - 1). With sqrt(a) = 1/π ∫ log(1 + a / t²) dt, the sum of the singular values falls by
    -1/π ∫ log(1 - c p_iᵀ (S + t²)⁻¹ p_i) dt, which takes one decomposition of S for all images.

    Args:
        generated: features ``[N, D]``, at least three rows.
        centre: mean of the reference ``[D]``.
        factor: a factor of its covariance ``[D, r]``, see `factor_of_features`.

    Raises:
        InputError: not a matrix, fewer than three rows, another width, NaN or infinity.
    """
    features = as_features(generated, "generated features", rows=3, columns=len(centre))
    n = len(features)
    mean = features.mean(axis=0, dtype=np.float64)
    values, basis = _scatter(features, mean, factor)
    squares, losses = [], []
    # Equal images span no axes: the integral is zero whatever its bounds are.
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
        # If the images span as many axes as there are images less one, nothing of an image remains without it.
        rest_b = (1 - n / (n - 1) * leverage_br.sum(axis=1)).clip(min=0) if n - 1 > len(values) else np.zeros(len(rows))
        # log(1 - x), written for each end of the scale so that no digits are lost.
        small_b = np.log(rest_b[:, None] + n / (n - 1) * (leverage_br @ remains_rt)) @ nodes[~large]
        large_b = np.log1p(-n / (n - 1) * (leverage_br @ goes_rt)) @ nodes[large]
        losses.append(-(small_b + large_b) * _STEP / np.pi)
    square_N = np.concatenate(squares)
    trace_N = (square_N.sum() - n / (n - 1) * square_N) / (n - 2) + (factor**2).sum()
    cross_N = (np.sqrt(values).sum() - np.concatenate(losses)) / np.sqrt(n - 2)
    return np.concatenate(shifts) + trace_N - 2 * cross_N


def _scatter(features: FeatureMatrix, mean: Floats, factor: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues ``[r]`` above rounding noise of the scatter of (x - mean) factor, and the map from x - mean to its axes."""
    n = len(features)
    if not factor.shape[1]:  # equal reference images span no axes
        return np.zeros(0), factor
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


def gaussian_of(features: FeatureMatrix) -> tuple[Floats, Floats]:
    """Mean ``[D]`` and a factor of the covariance ``[D, r]`` of a set."""
    return features.mean(axis=0, dtype=np.float64), factor_of_features(features)


def distance_to_factor(features: FeatureMatrix, centre: Floats, factor: Floats) -> float:
    """Squared Fréchet distance of the Gaussian fitted to ``features`` ``[N, D]`` from N(``centre``, ``factor`` ``factor``ᵀ).

    The trace of the root comes from the eigenvalues of the smaller product, which is three times as fast as singular values,
    unless rounding could move it by more than 1e-9 of the traces.
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


def factor_of_features(features: FeatureMatrix) -> Floats:
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
    # Five times as fast, but blind to the rank; so only far from singular matrices.
    return lower if pivots.min() > 1e-4 * pivots.max() else factor_of_covariance(covariance)


def factor_of_covariance(sigma: Floats) -> Floats:
    """A matrix A ``[D, r]`` with A Aᵀ = ``sigma``, r its numerical rank.

    Eigenvalues below D · eps · the largest are rounding noise of a singular matrix; each would add its square root to the
    trace.

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
    """The lower triangle of ``factor``ᵀ ``covariance`` ``factor`` ``[r, r]``; triangular factors take a third of the time."""
    if factor.shape != covariance.shape or bandwidth(factor)[1] > 0:
        return factor.T @ covariance @ factor
    # LAPACK is column-major: our lower triangle is its upper one.
    product, _ = dsygst(covariance.T, factor.T, itype=2, lower=0)
    return product.T


def _sum_of_squares(matrix: Floats) -> float:
    return float(np.linalg.norm(matrix) ** 2)  # without a copy of the matrix


def _sum_of_roots(gram: Floats) -> tuple[float, float]:
    """Sum of the square roots of a matrix's eigenvalues, and how far independent rounding errors may have moved it.

    Reads the lower triangle only.
    """
    if not gram.size:  # a set of equal images spans no axes
        return 0.0, 0.0
    values = np.linalg.eigvalsh(gram)
    noise = 8 * np.finfo(np.float64).eps * max(float(values[-1]), 0.0)
    roots = np.sqrt(values.clip(min=0))
    errors = np.minimum(noise / np.maximum(roots, np.finfo(np.float64).tiny), np.sqrt(noise))
    return float(roots.sum()), float(np.sqrt((errors**2).sum()))


def _distance(shift: Floats, traces: float, factor1: Floats, factor2: Floats) -> float:
    """The distance from the difference of means, the sum of both traces, and a factor of each covariance."""
    if factor1.shape[1] and factor2.shape[1]:
        cross = float(np.linalg.svd(factor1.T @ factor2, compute_uv=False).sum())
    else:
        cross = 0.0
    return max(float(shift @ shift) + traces - 2 * cross, 0.0)


def _checked_gaussian(mu: Any, sigma: Any, which: str) -> tuple[Floats, Floats, float]:
    """Mean, factor and trace of validated moments."""
    mean, covariance = np.asarray(mu, dtype=np.float64), np.asarray(sigma, dtype=np.float64)
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)) or len(mean) == 0:
        raise InputError(f"{which} Gaussian: got shapes {mean.shape} and {covariance.shape}; expected [D] and [D, D]")
    if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
        raise InputError(f"{which} Gaussian: its moments contain NaN or infinity; check the features they come from")
    scale = float(np.abs(covariance).max())
    if not np.allclose(covariance, covariance.T, rtol=0, atol=1e-6 * scale):
        raise InputError(f"{which} Gaussian: its covariance is not symmetric")
    return mean, factor_of_covariance((covariance + covariance.T) / 2), float(np.trace(covariance))
