"""The Vendi score: the effective number of different images in a set (Friedman and Dieng 2023, definition 3.1).

VS = exp(-sum λ log λ) over the eigenvalues λ of K / N, where K holds the cosine similarities of the features. It is N for N
orthogonal images, 1 for copies of one, and at most D. It needs no reference and cannot tell noise from diversity, so it is read
beside that of as many real images. Shape letters: N images, D features, r rank, t nodes of a quadrature, b a block of images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from nvgbench.metrics.arrays import FeatureMatrix, Floats, as_features, row_parts
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.uncertainty import Contributions, leave_one_out
from nvgbench.results.scores import SCORES

_STEP = 0.25
"""Step of the trapezoidal rule in log t; its error falls exponentially."""
_REACH = 25.0
"""How far the rule extends below the smallest and above the largest eigenvalue, in log t; the rest is below exp(-25)."""


class VendiMetric:
    """The Vendi score, with its exact jackknife error."""

    scores = (SCORES["Vendi"],)
    fewest_images = 1

    def compute(self, inputs: MetricInputs) -> Mapping[str, Contributions]:
        return {"Vendi": vendi_score(inputs.generated.features_ND)}


def vendi_score(features: Any) -> Contributions:
    """The Vendi score of features ``[N, D]``, between 1 and min(N, D), with what each image contributes.

    Raises:
        InputError: not a matrix, NaN or infinity.
    """
    features_ND = as_features(features, "generated features")
    n = len(features_ND)
    values_r, leverages = _spectrum(features_ND)
    shares_r = values_r / n
    value = max(float(np.exp(-shares_r @ np.log(shares_r))), 1.0)
    parts = leave_one_out(_without_each(n, values_r, leverages)) if n > 1 else np.zeros(1)
    return Contributions(value=value, parts=parts)


def _without_each(n: int, values_r: Floats, leverages: Iterable[Floats]) -> Floats:
    """The Vendi score without each of N images ``[N]``, exactly and from one decomposition.

    With a log a = ∫ a / (1 + t) - a / (a + t) dt over t > 0, leaving out image i takes ∫ 1 / (1 + t) - f(t) dt from the sum of
    a log a over the eigenvalues of S = sum x xᵀ, where f is what the trace of S (S + t)⁻¹ loses to the change of rank one.

    Args:
        n: number of images.
        values_r: positive eigenvalues a of S.
        leverages: blocks ``[b, r]`` of the squared components of each image along the eigenvectors, over their eigenvalues.
    """
    lowest, highest = np.log(min(values_r.min(), 1.0)), np.log(max(values_r.max(), 1.0))
    nodes = np.exp(np.arange(lowest - _REACH, highest + _REACH, _STEP))
    sums_rt = values_r[:, None] + nodes
    remains_rt, goes_rt = nodes / sums_rt, values_r[:, None] * nodes / sums_rt**2
    changes = []
    for leverage_br in leverages:
        # 1 - xᵀ (S + t)⁻¹ x, written so that no digits are lost for small t.
        rest_b = (1 - leverage_br.sum(axis=1)).clip(min=0)
        loss_bt = leverage_br @ goes_rt / (rest_b[:, None] + leverage_br @ remains_rt)
        changes.append((1 / (1 + nodes) - loss_bt) @ nodes * _STEP)
    total = values_r @ np.log(values_r)
    return np.asarray(np.exp(np.log(n - 1) - (total - np.concatenate(changes)) / (n - 1)))


def _spectrum(features_ND: FeatureMatrix) -> tuple[Floats, Iterator[Floats]]:
    """Eigenvalues of S above rounding noise and leverages, see `_without_each`, from the smaller of S and the Gram matrix.

    Never the whole set in float64, which would be 0.8 GB for 50,000 images of 2,048 features.
    """
    n, dimension = features_ND.shape
    zero = not all(rows.any(axis=1).all() for rows in row_parts(features_ND))
    if n <= dimension:
        directions_ND = _directions(features_ND, zero)
        product = directions_ND @ directions_ND.T
    else:
        product = np.zeros((dimension + zero, dimension + zero))
        for rows in row_parts(features_ND):
            part_bD = _directions(rows, zero)
            product += part_bD.T @ part_bD
    values, vectors = np.linalg.eigh(product)
    kept = values > values[-1] * len(values) * np.finfo(np.float64).eps
    values_r, vectors = values[kept], vectors[:, kept]
    if n <= dimension:
        return values_r, iter([vectors**2])
    return values_r, ((_directions(rows, zero) @ vectors) ** 2 / values_r for rows in row_parts(features_ND))


def _directions(features_bD: FeatureMatrix, zero: bool) -> Floats:
    """Features of length 1 in float64.

    Features of length 0 are equal to each other and have nothing in common with the others: ``zero`` adds an axis for them.
    """
    wide_bD = features_bD.astype(np.float64)
    length_b = np.linalg.norm(wide_bD, axis=1)
    wide_bD /= np.where(length_b == 0, 1.0, length_b)[:, None]
    return np.column_stack((wide_bD, length_b == 0)) if zero else wide_bD
