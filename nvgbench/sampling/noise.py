"""Random numbers for sampling: every image draws from its own stream. B: batch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from nvgbench.errors import InputError


class SeededNoise:
    """One CPU generator per image, so that an image does not depend on its neighbours, the batch size or the device.

    The stream of an image depends only on its seed and on the order and shapes of the calls.

    Args:
        seeds_B: int64 ``[B]``, or a sequence of ints.
        device: device of the drawn tensors.

    Raises:
        InputError: ``seeds_B`` is not a non-empty one-dimensional integer tensor.
    """

    def __init__(self, seeds_B: Tensor | Sequence[int], device: torch.device | str = "cpu") -> None:
        seeds = torch.as_tensor(seeds_B)
        if seeds.ndim != 1 or len(seeds) == 0 or seeds.is_floating_point():
            raise InputError(f"seeds are an integer tensor [B] with B >= 1, got {seeds.dtype} of shape {list(seeds.shape)}")
        self.device = torch.device(device)
        self._generators = [torch.Generator().manual_seed(_folded(seed)) for seed in seeds.tolist()]

    def __len__(self) -> int:
        """Number of images B."""
        return len(self._generators)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal, float32 ``[B, *shape]``."""
        return torch.stack([torch.randn(shape, generator=g) for g in self._generators]).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        """Uniform in [0, 1), float32 ``[B, *shape]``."""
        return torch.stack([torch.rand(shape, generator=g) for g in self._generators]).to(self.device)


def _folded(seed: int) -> int:
    """A seed in the 32 bits that torch's CPU generator uses; below 2^32 the seed itself.

    The lower half is combined with a hash of the upper one: images of one job share the upper half and keep different seeds,
    images of another job get others.
    """
    upper, lower = seed >> 32, seed & 0xFFFFFFFF
    if upper == 0:
        return lower
    return lower ^ int.from_bytes(hashlib.blake2b(str(upper).encode(), digest_size=4).digest(), "little")
