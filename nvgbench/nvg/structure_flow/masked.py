"""Masked bits: positions are revealed in a random order over a few passes (after MaskGIT, arXiv 2202.04200).

The order is random, not by confidence: a confident order draws the likely bits first and narrows the distribution.

Shape letters: see `nvgbench.nvg.structure_flow.objective`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nvgbench.nvg.structure_flow.bits import BitObjective, random_prefix
from nvgbench.nvg.structure_flow.objective import uniform


class Masked(BitObjective):
    """A random subset of positions is known; few are revealed at first, more later (MaskGIT's cosine)."""

    def hidden(self, rng: torch.Generator, shape: tuple[int, int], device: torch.device) -> Tensor:
        positions = self.layout.positions
        rank_BTL = uniform(rng, (*shape, positions), device).argsort(-1).argsort(-1)
        return (rank_BTL >= random_prefix(rng, shape, positions, device)).float()

    def order(self, noise_BL: Tensor) -> Tensor:
        return noise_BL.argsort(-1).argsort(-1)

    def revealed(self, passes: int) -> list[int]:
        positions = self.layout.positions
        passes = min(passes, positions)
        hidden = (math.cos(math.pi / 2 * step / passes) for step in range(passes))
        return [*(max(step, positions - math.ceil(positions * share)) for step, share in enumerate(hidden)), positions]
