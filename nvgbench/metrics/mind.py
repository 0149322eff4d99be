"""MIND, the Monge Inception Distance (Berthet et al. 2026, arXiv 2605.06797): a scaled sliced Wasserstein distance.

MIND = 3 D · mean over directions u of W₂²(u·X, u·Y), where W₂² is the optimal transport cost of the projected images: the mean
squared difference of the sorted projections if there are equally many of both. It depends on all moments, not only on the first
two. Between two samples of one distribution it is above 0 and falls as they grow, so only equal numbers are comparable.

The directions are whole orthonormal bases rather than independent draws. Each is still uniform on the sphere, so the
expectation is the paper's, but a shift of all images counts exactly 3 |shift|². They are the same in every evaluation. Of a
larger reference the paper's listing takes as many images as there are samples; here all of them count, by their quantiles.
Shape letters: N, M images, D features, U directions, u a block of them, c equal cells of the quantiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nvgbench.metrics.arrays import FeatureMatrix, Floats, as_feature_pair, row_parts
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.uncertainty import Contributions, leave_one_out
from nvgbench.results.scores import SCORES

DIRECTIONS = 1000
"""Least number of directions, the paper's largest."""
SCALE = 3.0
"""Times D: the paper's scale."""
_SEED = 0
"""Two models are projected onto the same directions, so that what the draw does to both cancels."""
_BLOCK = 128
"""Directions at once: 50 MB of projections of 50,000 images."""


class MindMetric:
    """MIND, or MIND[extractor], with its exact jackknife error."""

    scores = (SCORES["MIND"],)
    fewest_images = 2

    def compute(self, inputs: MetricInputs) -> Mapping[str, Contributions]:
        return {"MIND": mind(inputs.generated.features_ND, inputs.reference.features_ND, device=inputs.device)}


def mind(x: Any, y: Any, *, seed: int = _SEED, device: torch.device | str = "cpu") -> Contributions:
    """MIND of generated features ``x`` ``[N, D]`` against the reference ``y`` ``[M, D]``, with what each image contributes.

    Args:
        x: generated features, at least two rows.
        y: reference features; M may differ from N.
        seed: of the directions; other directions give a slightly different score.
        device: where projections are computed and sorted.

    Raises:
        InputError: not matrices, too few rows, different widths, NaN or infinity.
    """
    generated, reference = as_feature_pair(x, y)
    directions_DU = torch.from_numpy(orthonormal_directions(generated.shape[1], seed)).to(device)
    centre_D = reference.mean(axis=0, dtype=np.float64)
    scale = SCALE * len(directions_DU) / directions_DU.shape[1]
    value, without_N = 0.0, torch.zeros(len(generated), dtype=torch.float64, device=device)
    for block_Du in directions_DU.split(_BLOCK, dim=1):
        cost_u, without_uN = _transport_costs(*(_projected(points, centre_D, block_Du) for points in (generated, reference)))
        value += scale * float(cost_u.sum())
        without_N += scale * without_uN.sum(dim=0)
    count = directions_DU.shape[1]
    return Contributions(value=max(value, 0.0), parts=leave_one_out(without_N.cpu().numpy()), note=f"{count} directions")


def orthonormal_directions(dimension: int, seed: int) -> Floats:
    """Directions ``[D, U]``: as many random orthonormal bases as give at least `DIRECTIONS` of them."""
    bases = -(-DIRECTIONS // dimension)
    draws = np.random.default_rng(seed).standard_normal((bases, dimension, dimension))
    return np.concatenate(list(np.linalg.qr(draws).Q), axis=1)


def _projected(points: FeatureMatrix, centre_D: Floats, directions_Du: Tensor) -> Tensor:
    """Projections ``[u, N]`` in float64: equal images must have equal projections."""
    blocks = (torch.from_numpy(rows - centre_D).to(directions_Du.device) for rows in row_parts(points))
    return torch.cat([rows @ directions_Du for rows in blocks]).T.contiguous()


def _transport_costs(x_uN: Tensor, y_uM: Tensor) -> tuple[Tensor, Tensor]:
    """W₂² of the projections along each direction ``[u]``, and the same without each generated image ``[u, N]``, exactly.

    The i-th smallest of n projections is transported to the i-th of n equal cells of the reference's quantiles. Without an
    image, those below it keep their number among n - 1 cells, and those above it move down by one.
    """
    n = x_uN.shape[1]
    sorted_uN, order_uN = x_uN.sort(dim=1)
    quantiles_uM = y_uM.sort(dim=1).values
    square_u = y_uM.square().mean(dim=1)
    own_u = sorted_uN.square().sum(dim=1)
    cost_u = own_u / n + square_u - 2 * (sorted_uN * _cells(quantiles_uM, n)).sum(dim=1)
    cells_uc = _cells(quantiles_uM, n - 1)
    stay_uc, move_uc = sorted_uN[:, :-1] * cells_uc, sorted_uN[:, 1:] * cells_uc
    zero_u1 = torch.zeros_like(own_u)[:, None]
    below_uN = torch.cat((zero_u1, stay_uc.cumsum(dim=1)), dim=1)
    above_uN = move_uc.sum(dim=1, keepdim=True) - torch.cat((zero_u1, move_uc.cumsum(dim=1)), dim=1)
    rest_uN = (own_u[:, None] - sorted_uN.square()) / (n - 1)
    without_uN = rest_uN + square_u[:, None] - 2 * (below_uN + above_uN)
    return cost_u, torch.empty_like(without_uN).scatter_(1, order_uN, without_uN)


def _cells(quantiles_uM: Tensor, count: int) -> Tensor:
    """Integral of the quantile function over each of ``count`` equal cells ``[u, c]``."""
    m = quantiles_uM.shape[1]
    ends = torch.arange(count + 1, device=quantiles_uM.device) * m
    whole, share = ends // count, (ends % count).double() / count
    padded_uM = torch.nn.functional.pad(quantiles_uM, (0, 1))
    sums_uM = torch.nn.functional.pad(quantiles_uM.cumsum(dim=1), (1, 0))
    return (sums_uM[:, whole] + share * padded_uM[:, whole]).diff(dim=1) / m
