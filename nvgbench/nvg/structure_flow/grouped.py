"""Bits in groups of positions, one group after another in a fixed order (autoregressive over groups, after arXiv 2602.09024).

Shape letters: see `nvgbench.nvg.structure_flow.objective`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nvgbench.nvg.structure_flow.bits import BitObjective, random_prefix


class Grouped(BitObjective):
    """The order goes from coarse to fine: first a sparse lattice of positions, then those halfway between, and so on.

    With n passes the order is cut into n equal groups, so one training serves any n.
    """

    def hidden(self, rng: torch.Generator, shape: tuple[int, int], device: torch.device) -> Tensor:
        prefix_BT1 = random_prefix(rng, shape, self.layout.positions, device)
        return (self.order(prefix_BT1[..., 0]) >= prefix_BT1).float()

    def order(self, noise_BL: Tensor) -> Tensor:
        height, width = self.layout.grid
        places = [(row, column) for row in range(height) for column in range(width)]
        ranked = sorted(range(len(places)), key=lambda place: _interleaved(*places[place]))
        order_L = torch.empty(len(places), dtype=torch.int64)
        order_L[torch.tensor(ranked)] = torch.arange(len(places))
        return order_L[None].to(noise_BL.device)

    def revealed(self, passes: int) -> list[int]:
        positions = self.layout.positions
        passes = min(passes, positions)
        return [round(positions * step / passes) for step in range(passes + 1)]


def _interleaved(row: int, column: int, bits: int = 16) -> int:
    """Sort key: the low bits of row and column decide first, so that neighbours are far apart in the order."""
    key = 0
    for bit in range(bits):
        key = key << 2 | ((row >> bit & 1) ^ (column >> bit & 1)) << 1 | (row >> bit & 1)
    return key
