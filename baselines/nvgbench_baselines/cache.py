"""Cache of keys and values, owned by the sampler. B batch, H heads, T tokens, N capacity, E head size."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class LayerCache:
    """Keys and values of one attention layer, in buffers that are allocated once and written in place.

    Args:
        capacity: total number of tokens N.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._buffers: tuple[Tensor, Tensor] | None = None
        self._filled = 0

    def extend(self, keys_BHTE: Tensor, values_BHTE: Tensor) -> tuple[Tensor, Tensor]:
        """Append tokens and return views of the keys and values of all tokens so far, ``[B, H, filled, E]``."""
        start, self._filled = self._filled, self._filled + keys_BHTE.shape[2]
        assert self._filled <= self._capacity, "more tokens than the cache's capacity"
        keys, values = self._allocated(keys_BHTE, torch.empty)
        keys[:, :, start : self._filled] = keys_BHTE
        values[:, :, start : self._filled] = values_BHTE
        return keys[:, :, : self._filled], values[:, :, : self._filled]

    def write(self, place_1: Tensor, keys_BH1E: Tensor, values_BH1E: Tensor) -> tuple[Tensor, Tensor]:
        """Write one token at a place that only the device knows, so that one CUDA graph serves every place.

        Returns:
            The whole buffers, ``[B, H, N, E]``; what lies after the place must be masked.
        """
        # Zeros: a NaN in the values of a masked place would pass the mask.
        keys, values = self._allocated(keys_BH1E, torch.zeros)
        keys.index_copy_(2, place_1, keys_BH1E)
        values.index_copy_(2, place_1, values_BH1E)
        return keys, values

    def _allocated(self, like_BHTE: Tensor, fill: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
        if self._buffers is None:
            batch, heads, _, size = like_BHTE.shape
            shape = (batch, heads, self._capacity, size)
            keys, values = (fill(shape, dtype=like_BHTE.dtype, device=like_BHTE.device) for _ in range(2))
            self._buffers = keys, values
        return self._buffers
