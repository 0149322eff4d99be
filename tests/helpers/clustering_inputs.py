"""Latents that are hard to cluster in different ways. Shape letters: B batch, L positions, C channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def clustering_inputs(batch: int, length: int, channels: int, seed: int = 0) -> dict[str, Tensor]:
    """Float32 latents ``[B, L, C]`` by kind, ``length`` a power of two."""
    rng = torch.Generator().manual_seed(seed)
    random_BLC = torch.randn(batch, length, channels, generator=rng)
    side = 2 ** (length.bit_length() // 2)
    coarse_BChw = torch.randn(batch, channels, 4, 4, generator=rng)
    smooth_BChw = F.interpolate(coarse_BChw, (length // side or 1, side), mode="bicubic")
    smooth_BLC = smooth_BChw.flatten(2).transpose(1, 2)[:, :length].contiguous()
    position_L = torch.arange(length, dtype=torch.float32)
    half_flat_BLC = smooth_BLC.clone()
    half_flat_BLC[:, length // 2 :] = smooth_BLC[:, :1]
    return {
        "random": random_BLC,
        "smooth": smooth_BLC,
        "half flat": half_flat_BLC,
        "constant": random_BLC[:, :1].expand(-1, length, -1).contiguous(),
        "zero": torch.zeros(batch, length, channels),
        # Few distinct values: nearly all distances are tied.
        "two values": (random_BLC > 1).float(),
        "coarse": random_BLC[..., :2].round(),
        # Each position's nearest neighbour is the one before: one pair per round.
        "chain": (1.02**position_L)[None, :, None].expand(batch, -1, 1).contiguous(),
        # The tie's loser: distances differ by one step of the lattice.
        "near ties": random_BLC[:, :1] + 1e-6 * random_BLC.sign(),
        "one outlier": torch.cat((1e6 * random_BLC[:, :1], random_BLC[:, 1:]), dim=1),
    }
