"""Seeds of a training step, so that a resumed run repeats the uninterrupted one without storing any generator's state."""

from __future__ import annotations

import hashlib

import torch


def mix_seed(*parts: int | str) -> int:
    """A 63-bit seed that depends on all parts (Python's ``hash`` differs from process to process, and sums collide)."""
    digest = hashlib.blake2b("/".join(str(part) for part in parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def reseed(rng: torch.Generator, *parts: int | str) -> None:
    """Seed torch's global generators (CPU and CUDA) and ``rng`` from the parts; ``rng`` gets a stream of its own."""
    seed = mix_seed(*parts)
    torch.manual_seed(seed)
    rng.manual_seed(seed ^ 0x5DEECE66D)
