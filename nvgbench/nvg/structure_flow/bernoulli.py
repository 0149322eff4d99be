"""Independent bits in one pass: the control that any flow has to beat.

Shape letters: see `nvgbench.nvg.structure_flow.objective`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nvgbench.nvg.config import NvgSamplingConfig
from nvgbench.nvg.structure_flow.bits import BitObjective
from nvgbench.nvg.structure_flow.flow_map import endpoint
from nvgbench.nvg.structure_flow.objective import Predict


class Bernoulli(BitObjective):
    """Every bit by itself, given the canvas and the decided channels; always one pass.

    With ``sampling.gumbel`` the scores are the bits' means, and the Gumbel noise of the split draws; otherwise the bits are
    drawn independently and the split keeps the top half of each parent.
    """

    def hidden(self, rng: torch.Generator, shape: tuple[int, int], device: torch.device) -> Tensor:
        return torch.ones(*shape, self.layout.positions, device=device)

    def order(self, noise_BL: Tensor) -> Tensor:
        return torch.zeros(1, self.layout.positions, dtype=torch.int64, device=noise_BL.device)

    def revealed(self, passes: int) -> list[int]:
        return [0, self.layout.positions]

    def generate(
        self,
        predict: Predict,
        noise_BLK: Tensor,
        impose: Callable[[Tensor], Tensor],
        channels: slice,
        settings: NvgSamplingConfig,
    ) -> Tensor:
        if settings.gumbel:
            return endpoint(predict(impose(torch.zeros_like(noise_BLK)), 0)[..., channels])
        return super().generate(predict, noise_BLK, impose, channels, settings)
