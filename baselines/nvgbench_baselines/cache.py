"""Cache of keys and values, owned by the sampler. B batch, H heads, T tokens, E head size."""

from __future__ import annotations

from torch import Tensor


class LayerCache:
    """Keys and values of one attention layer, in buffers allocated at the first use.

    Args:
        capacity: total number of tokens.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._buffers: tuple[Tensor, Tensor] | None = None
        self._filled = 0

    def extend(self, keys_BHTE: Tensor, values_BHTE: Tensor) -> tuple[Tensor, Tensor]:
        """Append tokens and return the keys and values of all tokens so far, ``[B, H, filled, E]``."""
        batch, heads, new, size = keys_BHTE.shape
        if self._buffers is None:
            shape = (batch, heads, self._capacity, size)
            self._buffers = keys_BHTE.new_empty(shape), values_BHTE.new_empty(shape)
        start, self._filled = self._filled, self._filled + new
        assert self._filled <= self._capacity, "more tokens than the cache's capacity"
        keys, values = self._buffers
        keys[:, :, start : self._filled] = keys_BHTE
        values[:, :, start : self._filled] = values_BHTE
        return keys[:, :, : self._filled], values[:, :, : self._filled]
