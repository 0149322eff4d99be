"""The order of joining as float32 distances decide it, which is how the original's golden labels were made.

The package clusters in exact arithmetic. Where two pairs are equally far apart up to float32 rounding, the two may join them in
another order; this says whether such rounding is all that stands between them.

Shape letters: B batch, S stages, L positions, C channels, n clusters of a stage.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# What a used pair's distance is set to.
_USED = 1e8


def float32_order(points_BLC: np.ndarray) -> np.ndarray:
    """As `nvgbench.nvg.clustering.joining_order`: int64 ``[B, S, L]``, clusters numbered by when their pair was joined.

    At every stage the globally nearest pair of cluster means is joined and removed, the first in row-major order among equals.
    On a CPU, whatever device the rest is recomputed on: the rounding is that of its matrix product.
    """
    points = torch.from_numpy(points_BLC.astype(np.float32))
    return torch.stack([_order(points_LC) for points_LC in points]).numpy()


def _order(points_LC: Tensor) -> Tensor:
    structure_L = torch.arange(len(points_LC))
    stages = [structure_L]
    # Half precision may be asked for around this; the arithmetic is the original's in any case.
    with torch.autocast("cpu", enabled=False):
        while (count := int(stages[-1].max()) + 1) > 1:
            means_nC = points_LC.new_zeros(count, points_LC.shape[1]).index_add_(0, stages[-1], points_LC)
            means_nC *= count / len(points_LC)
            stages.append(_joined(torch.cdist(means_nC, means_nC))[stages[-1]])
    return torch.stack(stages[::-1])


def _joined(distance_nn: Tensor) -> Tensor:
    """The pair that each cluster ends in."""
    count = len(distance_nn)
    distance_nn.fill_diagonal_(_USED)
    pair_n = torch.empty(count, dtype=torch.int64)
    for pair in range(count // 2):
        ends = list(divmod(int(distance_nn.argmin()), count))
        pair_n[ends] = pair
        distance_nn[ends] = _USED
        distance_nn[:, ends] = _USED
    return pair_n


def structure_of_order(order_BSL: np.ndarray) -> np.ndarray:
    """Nested structure maps from numbers of joining: children of class j are 2j and 2j + 1, the one joined earlier first."""
    stages = [np.zeros_like(order_BSL[:, 0])]
    for order_BL in order_BSL[:, 1:].swapaxes(0, 1):
        keys_BL = stages[-1] * order_BSL.shape[-1] + order_BL
        stages.append(np.stack([np.unique(keys_L, return_inverse=True)[1].reshape(-1) for keys_L in keys_BL]))
    return np.stack(stages, axis=1)
