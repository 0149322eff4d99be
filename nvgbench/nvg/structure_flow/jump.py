"""What objectives with two times share: pairs of times in training, jumps between times in sampling.

Half of the rows have equal times (the diagonal), where the network is an ordinary flow; the other half learn longer jumps.

Shape letters: see `nvgbench.nvg.structure_flow.objective`; M the rows off the diagonal.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from nvgbench.nvg.config import NvgSamplingConfig
from nvgbench.nvg.structure_flow.objective import FlowInputs, Network, Predict, StructureObjective, normal, uniform
from nvgbench.nvg.structure_flow.solver import euler, time_grid


class Rows(NamedTuple):
    """Inputs of a batch with images and stages in one axis; ``open_N1K`` is 1 where a channel is generated."""

    z_NLK: Tensor
    t_N: Tensor
    target_N: Tensor
    data_NLK: Tensor
    velocity_NLK: Tensor
    open_N1K: Tensor

    def at(self, rows_M: Tensor) -> Rows:
        return Rows(*(part[rows_M] for part in self))


class JumpObjective(StructureObjective):
    """From any time straight to any earlier one."""

    two_times = True
    distils = True
    period: ClassVar[int] = 2
    """One row in so many is off the diagonal."""
    diagonal_mean: ClassVar[float] = 0.0
    """Mean of the logit-normal law of times on the diagonal."""

    @abstractmethod
    def draw_jumps(self, rng: torch.Generator, shape: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Times and target times ``[B, T]`` for rows off the diagonal."""

    def draw(self, structure_BL: Tensor, rng: torch.Generator) -> FlowInputs:
        layout, batch, device = self.layout, len(structure_BL), structure_BL.device
        epsilon_BLK = normal(rng, (batch, layout.positions, layout.channels), device)
        shape = batch, layout.structure_stages
        diagonal_BT = (self.diagonal_mean + normal(rng, shape, device)).sigmoid()
        t_BT, target_BT = self.draw_jumps(rng, shape, device)
        off_BT = torch.zeros(shape, dtype=torch.bool, device=device)
        off_BT.view(-1)[self.on_and_off(batch, device)[1]] = True
        t_BT = torch.where(off_BT, t_BT, diagonal_BT)
        return self.mix(structure_BL, epsilon_BLK, t_BT, torch.where(off_BT, target_BT, t_BT))

    def on_and_off(self, batch: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Indices of the rows on and off the diagonal, ``[D]`` and ``[M]``.

        A fixed pattern, so that every batch has the same share of them and nothing waits for the device.
        """
        stages = self.layout.structure_stages
        places: tuple[list[int], list[int]] = ([], [])
        for row in range(batch * stages):
            places[(row // stages + row % stages) % self.period == self.period - 1].append(row)
        on_D, off_M = (torch.tensor(found, dtype=torch.int64, device=device) for found in places)
        return on_D, off_M

    def rows(self, inputs: FlowInputs, teacher: Network | None) -> Rows:
        """The batch by rows; the velocity is noise - data, or the teacher's, and zero in decided channels."""
        assert inputs.target_BT is not None
        batch = len(inputs.t_BT)
        z_NLK, t_N = inputs.z_BTLK.flatten(0, 1), inputs.t_BT.flatten()
        data_NLK = inputs.data_BLK.repeat_interleave(self.layout.structure_stages, dim=0)
        open_N1K = self.open_channels(z_NLK.device).repeat(batch, 1, 1)
        if teacher is None:
            velocity_NLK = inputs.noise_BTLK.flatten(0, 1) - data_NLK
        else:
            with torch.no_grad():
                velocity_NLK = teacher(z_NLK, t_N, None) * open_N1K
        return Rows(z_NLK, t_N, inputs.target_BT.flatten(), data_NLK, velocity_NLK, open_N1K)

    def jump_times(self, settings: NvgSamplingConfig) -> list[tuple[float, float]]:
        """The jumps of a sampling."""
        grid = time_grid(settings.flow_steps, settings.flow_schedule, self.layout.positions)
        return list(itertools.pairwise(grid))

    def evaluations(self, settings: NvgSamplingConfig) -> list[tuple[float, ...]]:
        return list(self.jump_times(settings))

    def velocity(self, output: Tensor, z_BLK: Tensor, t: Tensor | float) -> Tensor:
        """The average velocity of a jump from the network's output at its start."""
        return output

    def generate(
        self,
        predict: Predict,
        noise_BLK: Tensor,
        impose: Callable[[Tensor], Tensor],
        channels: slice,
        settings: NvgSamplingConfig,
    ) -> Tensor:
        """Jumps along average velocities, which are Euler steps."""
        times = self.jump_times(settings)

        def velocity(z_BLK: Tensor, step: int) -> Tensor:
            return self.velocity(predict(z_BLK, step), z_BLK, times[step][0])

        grid = [times[0][0], *(later for _, later in times)]
        return euler(velocity, noise_BLK, grid, impose)[..., channels]


def broadcast(t_N: Tensor) -> Tensor:
    """``[N]`` to ``[N, 1, 1]``."""
    return t_N[:, None, None]


def pair(t_N: Tensor, target_N: Tensor) -> Tensor:
    """Both times for the network, ``[N, 2]``."""
    return torch.stack((t_N, target_N), dim=-1)


def logit_normal_pairs(
    rng: torch.Generator, shape: tuple[int, int], device: torch.device, mean: float, deviation: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Two logit-normal times each, the later one (more noise) first."""
    times_BT2 = (mean + deviation * normal(rng, (*shape, 2), device)).sigmoid()
    return times_BT2.amax(-1), times_BT2.amin(-1)


def uniform_pairs(rng: torch.Generator, shape: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Two uniform times each, the later one (more noise) first.

    The range is a tenth wider on both sides and cut off, so that jumps from pure noise and to the data are among them.
    """
    times_BT2 = (1.2 * uniform(rng, (*shape, 2), device) - 0.1).clamp(0, 1)
    return times_BT2.amax(-1), times_BT2.amin(-1)
