"""Shortcut models (arXiv 2410.12557): a step of size d equals two of size d / 2; sizes are powers of two.

Shape letters: see `nvgbench.nvg.structure_flow.objective`; M the rows off the diagonal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nvgbench.nvg.structure_flow.jump import Rows
from nvgbench.nvg.structure_flow.objective import uniform
from nvgbench.nvg.structure_flow.split_mean_flow import SplitMeanFlow

_SIZES = 7
"""Steps of 1, 1/2 … 1/64, each of which is made of two halves."""


class Shortcut(SplitMeanFlow):
    """The special case of `SplitMeanFlow` with two halves, on a binary grid of times, in a quarter of the rows."""

    period = 4
    training_passes = 3 + 2 / 4

    def draw_jumps(self, rng: torch.Generator, shape: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        size_BT = 0.5 ** (uniform(rng, shape, device) * _SIZES).floor()
        start_BT = 1 - size_BT * (uniform(rng, shape, device) / size_BT).floor()
        return start_BT, start_BT - size_BT

    def share(self, rows: Rows) -> Tensor:
        return torch.full_like(rows.t_N, 0.5)
