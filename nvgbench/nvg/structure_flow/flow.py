"""The rectified flow of the structure maps (paper, section 3.2): the network predicts the velocity noise - data.

Shape letters: see `nvgbench.nvg.structure_flow.objective`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nvgbench.nvg.config import NvgSamplingConfig
from nvgbench.nvg.structure_flow.objective import FlowInputs, Network, Predict, StructureObjective, normal
from nvgbench.nvg.structure_flow.solver import euler, heun, time_grid


class StructureFlow(StructureObjective):
    """Rectified flow over the structure embedding."""

    loss_name = "structure_mse"

    def draw(self, structure_BL: Tensor, rng: torch.Generator) -> FlowInputs:
        """One noise map per image, shared by its stages, and one time per image and stage.

        The time law is logit-normal: t is the sigmoid of a standard normal number. The noise is drawn before the times.
        """
        layout, batch, device = self.layout, len(structure_BL), structure_BL.device
        epsilon_BLK = normal(rng, (batch, layout.positions, layout.channels), device)
        t_BT = normal(rng, (batch, layout.structure_stages), device).sigmoid()
        return self.mix(structure_BL, epsilon_BLK, t_BT)

    def losses(self, network: Network, inputs: FlowInputs, teacher: Network | None = None) -> Tensor:
        assert teacher is None, "a flow is not distilled"
        return self.velocity_losses(inputs.evaluate(network), inputs)

    def velocity_losses(self, velocity_BTLK: Tensor, inputs: FlowInputs) -> Tensor:
        """Squared error of the data prediction noise - velocity, one mean per stage over images, positions and all channels.

        This is the reference's form; it equals the squared error of the velocity up to rounding.

        Returns:
            float32 ``[T]``.
        """
        predicted_BTLK = inputs.noise_BTLK - velocity_BTLK
        return (predicted_BTLK - inputs.data_BLK[:, None]).square().mean(dim=(0, 2, 3))

    def evaluations(self, settings: NvgSamplingConfig) -> list[tuple[float, ...]]:
        return [(t,) for t in time_grid(settings.flow_steps, settings.flow_schedule, self.layout.positions)[:-1]]

    def passes(self, settings: NvgSamplingConfig) -> int:
        return 2 * settings.flow_steps - 1 if settings.flow_solver == "heun" else settings.flow_steps

    def generate(
        self,
        predict: Predict,
        noise_BLK: Tensor,
        impose: Callable[[Tensor], Tensor],
        channels: slice,
        settings: NvgSamplingConfig,
    ) -> Tensor:
        solve = heun if settings.flow_solver == "heun" else euler
        times = time_grid(settings.flow_steps, settings.flow_schedule, self.layout.positions)
        return solve(predict, noise_BLK, times, impose)[..., channels]
