"""The hierarchy of structure maps of any latent."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.nvg import clustering


def build_structure(
    latent: NDArray[np.floating[Any]] | Tensor, group_size: int | tuple[int, ...] = 2, **options: Any
) -> Tensor:
    """Nested, balanced structure maps of latents (NVG's Algorithm 1), from one cluster to one cluster per position.

    Args:
        latent: float ``[B, L, C]`` in raster order, or ``[B, C, h, w]``; an array or a tensor.
        group_size: clusters of a stage that form one cluster of the stage before, a power of two; or one for each split,
            coarse to fine.
        options: see `nvgbench.nvg.clustering.build_structure`: ``child_order``, ``method``, ``tie_break``, ``generator``.

    Returns:
        int64 ``[B, S, L]``, or ``[B, S, h, w]`` for latents on a grid. Stage 0 is all zeros; at the last all labels differ.

    Raises:
        InputError: a shape that cannot be grouped, unknown options, or values that are not finite.

    Example:
        >>> import torch, nvgbench as nb
        >>> maps = nb.build_structure(torch.randn(2, 32, 8, 8, generator=torch.Generator().manual_seed(0)))
        >>> maps.shape
        torch.Size([2, 7, 8, 8])
        >>> bool((maps[:, 3] == maps[:, 4] // 2).all())
        True
    """
    tensor = torch.as_tensor(latent)
    if tensor.ndim == 3:
        return clustering.build_structure(tensor, group_size, **options)
    if tensor.ndim != 4:
        raise InputError(f"a latent of shape {list(tensor.shape)}; expected [B, L, C] or [B, C, h, w]")
    grid = (tensor.shape[2], tensor.shape[3])
    rows_BLC = tensor.flatten(2).transpose(1, 2)
    return clustering.build_structure(rows_BLC, group_size, **{"grid": grid} | options).unflatten(2, grid)
