"""Seeds of training steps: a resumed run repeats the uninterrupted one without a stored generator state."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def mix_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on all parts. (Python's ``hash`` differs between processes, and sums collide.)"""
    digest = hashlib.blake2b("/".join(str(part) for part in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def reseed(rng: torch.Generator, *parts: int | str) -> None:
    """Seed torch's global generators (CPU and CUDA) and ``rng`` from the parts; ``rng`` gets a different stream."""
    import torch

    seed = mix_seed(*parts)
    torch.manual_seed(seed)
    rng.manual_seed(seed ^ 0x5DEECE66D)
