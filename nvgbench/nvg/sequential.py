"""Algorithm 1 as the paper writes it, one pair at a time: slow and readable.

`nvgbench.nvg.clustering` computes the same hierarchy in batches. This loop is what the tests and the benchmark compare it
with, and what replays the reference implementation's rounding in ``nvgbench verify``.

Shape letters: B batch, S stages, L positions, C channels, n clusters of a stage.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def sequential_order(
    points_LC: Tensor, distances: Callable[[Tensor], Tensor] = lambda means: torch.cdist(means, means)
) -> Tensor:
    """Build the hierarchy of one image bottom-up.

    Args:
        points_LC: latents, float; L a power of two.
        distances: cluster means ``[n, C]`` to the matrix ``[n, n]`` whose smallest entry names the next pair; of equal entries
            the first in row-major order counts.

    Returns:
        int64 ``[S, L]``, stage 0 first: clusters numbered by when their pair was joined; the raster index at the last stage.
    """
    stages = [torch.arange(len(points_LC))]  # stage K: one cluster per position
    while (count := int(stages[-1].max()) + 1) > 1:
        means_nC = points_LC.new_zeros(count, points_LC.shape[1]).index_add_(0, stages[-1], points_LC)
        means_nC *= count / len(points_LC)  # all clusters have the same size
        stages.append(_join_pairs(distances(means_nC))[stages[-1]])
    return torch.stack(stages[::-1])


def _join_pairs(distance_nn: Tensor) -> Tensor:
    """Join the closest pair, take both out of the pool, repeat until it is empty; the number of each cluster's pair."""
    count, used = len(distance_nn), torch.inf
    distance_nn = distance_nn.fill_diagonal_(used)
    pair_n = torch.empty(count, dtype=torch.int64)
    for pair in range(count // 2):
        ends = list(divmod(int(distance_nn.argmin()), count))
        pair_n[ends] = pair
        distance_nn[ends] = used
        distance_nn[:, ends] = used
    return pair_n


def structure_of_order(order_BSL: Tensor) -> Tensor:
    """Nested structure maps from numbers of joining: children of class j are 2j and 2j + 1, the one joined earlier first."""
    stages = [torch.zeros_like(order_BSL[:, 0])]
    for order_BL in order_BSL[:, 1:].unbind(1):
        keys_BL = stages[-1] * order_BSL.shape[-1] + order_BL
        stages.append(torch.stack([keys_L.unique(return_inverse=True)[1] for keys_L in keys_BL]))
    return torch.stack(stages, dim=1)
