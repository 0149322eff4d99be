"""Kernel distances: squared maximum mean discrepancies between two sets of features.

KID (Bińkowski et al. 2018, section 4): k(x, y) = (x·y / D + 1)³; the unbiased estimator, averaged over random subsets.
CMMD (Jayasumana et al. 2024, section 4): k(x, y) = exp(-|x - y|² / (2 · 10²)) on CLIP embeddings of length 1; the estimator
that keeps the diagonals, on whole sets, times 1,000. Shape letters: N, M images, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import FeatureMatrix, Floats, as_feature_pair, as_pair
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.uncertainty import Contributions, deviations
from nvgbench.results.scores import SCORES

Kernel = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
CMMD_SIGMA = 10.0
CMMD_SCALE = 1000.0
_BLOCK = 1024
_HAJEK = "Hájek projection"


class KernelMetric:
    """KID, or KD[extractor], with the error of its Hájek projection and of the drawn subsets."""

    scores = (SCORES["KID"],)
    fewest_images = 2

    def compute(self, inputs: MetricInputs) -> Mapping[str, Contributions]:
        x, y = inputs.generated.features_ND, inputs.reference.features_ND
        found = kernel_distance(
            x, y, subsets=inputs.kid_subsets, subset_size=inputs.kid_subset_size, seed=inputs.seed, device=inputs.device
        )
        kid = Contributions(
            value=found.mean,
            parts=kernel_contributions(x, y, device=inputs.device),
            # With many images, the draw of the subsets moves the mean more than the images do.
            other_variance=found.std**2 / found.subsets,
            method=f"{_HAJEK} and the draw of the subsets",
            note=f"{found.subsets} subsets of {found.subset_size}, standard deviation {found.std:.3g}",
        )
        return {"KID": kid}


class CmmdMetric:
    """CMMD, for CLIP embeddings alone."""

    scores = (SCORES["CMMD"],)
    fewest_images = 2

    def compute(self, inputs: MetricInputs) -> Mapping[str, Contributions]:
        if inputs.extractor != SCORES["CMMD"].extractor:
            return {}
        x, y = inputs.generated.features_ND, inputs.reference.features_ND
        return {"CMMD": cmmd(x, y, device=inputs.device)}


@dataclass(frozen=True)
class KernelDistance:
    """Mean and standard deviation (ddof 0) over the subsets, and their number and size."""

    mean: float
    std: float
    subsets: int
    subset_size: int


def kernel_distance(
    x: Any, y: Any, *, subsets: int = 100, subset_size: int = 1000, seed: int = 0, device: torch.device | str = "cpu"
) -> KernelDistance:
    """Unbiased squared MMD between two sets of features; it may be slightly negative.

    Args:
        x: features ``[N, D]`` of the generated images.
        y: features ``[M, D]`` of the reference.
        subsets: number of pairs of subsets, drawn without replacement inside a subset.
        subset_size: images per subset; at most the size of the smaller set. If both sets have that size, there is one subset,
            as all would be equal.
        seed: of the draw.
        device: where the products are computed.

    Raises:
        InputError: not matrices, different widths, fewer than two images, NaN or infinity.
    """
    if subsets < 1 or subset_size < 2:
        raise InputError(f"{subsets} subsets of {subset_size} images; expected at least 1 of at least 2")
    first, second = as_feature_pair(x, y, rows=2)
    size = min(subset_size, len(first), len(second))
    rounds = 1 if size == len(first) == len(second) else subsets
    rng = np.random.default_rng(seed)
    # Products in float32 (about 1e-6 of a kernel value near 1), powers and sums in float64.
    tensors = _on_device(first, second, device, torch.float32)
    values = []
    for _ in range(rounds):
        parts = [tensor[torch.from_numpy(rng.choice(len(tensor), size, replace=False)).to(tensor.device)] for tensor in tensors]
        values.append(_unbiased(*parts))
    return KernelDistance(float(np.mean(values)), float(np.std(values)), rounds, size)


def kernel_contributions(x: Any, y: Any, *, device: torch.device | str = "cpu") -> Floats:
    """Contribution of each generated image ``[N]`` to the error of the squared MMD, the reference held fixed.

    First-order (Hájek) projection of the estimator, whose standard error is
    2 · std_i(mean_j k(x_i, x_j) - mean_j k(x_i, y_j)) / sqrt(N).
    """
    first, second = _on_device(*as_feature_pair(x, y, rows=2), device, torch.float32)
    return _projection(_means(first, first, _polynomial) - _means(first, second, _polynomial))


def cmmd(x: Any, y: Any, *, device: torch.device | str = "cpu") -> Contributions:
    """CMMD between two sets of CLIP embeddings ``[N, D]`` and ``[M, D]``, each of length 1; at least 0.

    The contributions are those of `kernel_contributions`.

    Raises:
        InputError: not matrices, different widths, fewer than two images, NaN or infinity.
    """
    first, second = _on_device(*as_pair(x, y, rows=2), device, torch.float64)
    within_N, across_N = (_means(first, other, _gaussian) for other in (first, second))
    value = CMMD_SCALE * float(within_N.mean() + _means(second, second, _gaussian).mean() - 2 * across_N.mean())
    return Contributions(value=max(value, 0.0), parts=CMMD_SCALE * _projection(within_N - across_N), method=_HAJEK)


def _projection(witness_N: Floats) -> Floats:
    """Contributions to the error from each generated image's mean kernel within its set, minus that to the reference."""
    return 2 * deviations(witness_N) / np.sqrt(len(witness_N) * (len(witness_N) - 1))


def _means(x: torch.Tensor, y: torch.Tensor, kernel: Kernel) -> Floats:
    """Mean of the kernel over ``y`` for each row of ``x`` ``[N]``, block by block."""
    return np.concatenate([kernel(rows, y).mean(dim=1).cpu().numpy() for rows in x.split(_BLOCK)])


def _on_device(
    x: FeatureMatrix, y: FeatureMatrix, device: torch.device | str, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    # Memory-mapped arrays may be read-only, which tensors cannot be; only such arrays are copied.
    writable = (part if part.flags.writeable else part.copy() for part in (x, y))
    first, second = (torch.from_numpy(part).to(device, dtype) for part in writable)
    return first, second


def _gaussian(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    squared = x.square().sum(dim=1)[:, None] + y.square().sum(dim=1) - 2 * x @ y.T
    return squared.div_(-2 * CMMD_SIGMA**2).exp_()


def _polynomial(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    base = (x @ y.T).double().div_(x.shape[1]).add_(1)
    return base * base * base


def _unbiased(x: torch.Tensor, y: torch.Tensor) -> float:
    n = len(x)
    within = 0.0
    for part in (x, y):
        kernel = _polynomial(part, part)
        within += float(kernel.sum() - kernel.diagonal().sum()) / (n * (n - 1))
    return within - 2 * float(_polynomial(x, y).mean())
