"""KID-RBF: the squared maximum mean discrepancy with a Gaussian kernel, for features of any scale.

Gretton et al. (2012): k(x, y) = exp(-|x - y|² / (2 sigma²)), the unbiased estimator of lemma 6. A Gaussian kernel is
characteristic: only equal distributions have distance 0, whereas KID's cubic kernel sees the first three moments. 2 sigma² is
the mean squared distance of two reference images, twice the trace of their covariance. Section 8 instead sets sigma to the
median distance in the pooled sample, a kernel about 1.4 times as wide; the mean over the reference needs no subset and does not
depend on the samples, so that all models share a kernel. Shape letters: N, M images, D features, n a block of images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nvgbench.metrics.arrays import FeatureMatrix, Floats, as_feature_pair
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.uncertainty import Contributions, deviations
from nvgbench.results.scores import SCORES

PART = 5000
"""Larger sets are cut into parts of up to this many images, whose distances are averaged: a tenth of the time for 50,000."""
_BLOCK = 1024


class RbfKernelMetric:
    """KID-RBF, or KD-RBF[extractor]; left out if the reference images are all the same, which gives no bandwidth."""

    scores = (SCORES["KID-RBF"],)
    fewest_images = 2

    def compute(self, inputs: MetricInputs) -> Mapping[str, Contributions]:
        x, y = inputs.generated.features_ND, inputs.reference.features_ND
        sigma = bandwidth(y)
        if sigma == 0:
            return {}
        return {"KID-RBF": rbf_kernel_distance(x, y, sigma=sigma, seed=inputs.seed, device=inputs.device)}


def bandwidth(reference: FeatureMatrix) -> float:
    """Sigma: the root of the trace of the reference's covariance; 0 if its images are all the same."""
    return math.sqrt(float(reference.var(axis=0, dtype=np.float64, ddof=1).sum()))


def rbf_kernel_distance(
    x: Any, y: Any, *, sigma: float | None = None, seed: int = 0, device: torch.device | str = "cpu"
) -> Contributions:
    """Unbiased squared MMD of features ``x`` ``[N, D]`` and ``y`` ``[M, D]``; it may be slightly negative.

    Args:
        x: features of the generated images, at least two.
        y: features of the reference, at least two.
        sigma: of the kernel; see `bandwidth` if not given.
        seed: of the random cut of sets of more than `PART` images.
        device: where the products are computed.

    Raises:
        InputError: not matrices, different widths, fewer than two images, NaN or infinity.
    """
    first, second = as_feature_pair(x, y, rows=2)
    sigma = bandwidth(second) if sigma is None else sigma
    smaller, larger = sorted((len(first), len(second)))
    parts = min(math.ceil(larger / PART), smaller // 2)
    centre_D = second.mean(axis=0, dtype=np.float64)
    rng = np.random.default_rng(seed)
    value, contributions_N = 0.0, np.zeros(len(first))
    for own, other in zip(_cut(len(first), parts, rng), _cut(len(second), parts, rng), strict=True):
        distance, contributions_n = _part(first[own] - centre_D, second[other] - centre_D, sigma, device)
        value += distance / parts
        contributions_N[own] = contributions_n / parts
    note = f"sigma {sigma:.4g}" + (f", {parts} parts" if parts > 1 else "")
    return Contributions(value=value, parts=contributions_N, method="Hájek projection", note=note)


def _cut(count: int, parts: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Row numbers of each of ``parts`` random parts of nearly equal size."""
    return np.array_split(np.arange(count) if parts == 1 else rng.permutation(count), parts)


def _part(x: Floats, y: Floats, sigma: float, device: torch.device | str) -> tuple[float, Floats]:
    """Distance of two parts, and the contribution of each generated image of the part."""
    first, second = (torch.from_numpy(np.ascontiguousarray(part)).to(device) for part in (x, y))
    within_N, across_N = (_mean_kernel(first, other, sigma).cpu().numpy() for other in (first, second))
    within_M = _mean_kernel(second, second, sigma).cpu().numpy()
    n, m = len(x), len(y)
    # Without the pairs of an image with itself, whose kernel is 1.
    others_N, others_M = (n * within_N - 1) / (n - 1), (m * within_M - 1) / (m - 1)
    value = float(others_N.mean() + others_M.mean() - 2 * across_N.mean())
    return value, 2 * deviations(others_N - across_N) / np.sqrt(n * (n - 1))


def _mean_kernel(x: Tensor, y: Tensor, sigma: float) -> Tensor:
    """Mean over ``y`` of the kernel of each row of ``x`` ``[N]``, in float64."""
    square_M = y.square().sum(dim=1)
    means = []
    for rows in x.split(_BLOCK):
        squared_nM = (rows.square().sum(dim=1)[:, None] + square_M).addmm_(rows, y.T, alpha=-2).clamp_(min=0)
        means.append(squared_nM.div_(-2 * sigma**2).exp_().mean(dim=1))
    return torch.cat(means)
