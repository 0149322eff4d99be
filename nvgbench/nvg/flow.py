"""The rectified flow of the structure maps: interpolant, time law, loss and solver (paper, section 3.2).

Time: t = 0 data, t = 1 noise, z_t = (1 - t)·data + t·noise, velocity = noise - data. Data are the structure embedding minus
one, so -1 and +1.

The flow covers all K channels at every stage, though some are already decided. Partial noise (Table 3) overwrites these with
their true values, which turns the flow into inpainting and lets one network serve all stages. It is applied to the noise end in
training (`StructureFlow.mix`), and to the start and every step of the integration (`StructureFlow.scores`).

Training and sampling use the flow through `draw`, `losses`, `times` and `scores` only; another objective provides the same.

Shape letters: B batch, T structure stages (K - 1), L positions, K structure channels, b channels decided by one split.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nvgbench.nvg.config import NvgSamplingConfig
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure import structure_embedding


@dataclass(frozen=True)
class FlowInputs:
    """Noised structure maps of one batch.

    Attributes:
        z_BTLK: input of the network, (1 - t)·data + t·noise.
        t_BT: flow times.
        noise_BTLK: the noise end; with partial noise, decided channels hold the data.
        data_BLK: -1 and +1; the target at every stage.
    """

    z_BTLK: Tensor
    t_BT: Tensor
    noise_BTLK: Tensor
    data_BLK: Tensor


@dataclass(frozen=True)
class StructureFlow:
    """Rectified flow over the structure embedding.

    Attributes:
        layout: grid and stages.
        partial_noise: whether the network sees the decided channels.
    """

    layout: StageLayout
    partial_noise: bool

    def draw(self, structure_BL: Tensor, rng: torch.Generator) -> FlowInputs:
        """Noise a batch for training: one noise map per image, shared by its stages, and one time per image and stage.

        The time law is logit-normal: t is the sigmoid of a standard normal number.

        Args:
            structure_BL: int64 structure maps of the last stage.
            rng: source of the noise, then of the times.
        """
        layout, batch, device = self.layout, len(structure_BL), structure_BL.device
        epsilon_BLK = _normal(rng, (batch, layout.positions, layout.channels), device)
        t_BT = _normal(rng, (batch, layout.structure_stages), device).sigmoid()
        return self.mix(structure_BL, epsilon_BLK, t_BT)

    def mix(self, structure_BL: Tensor, epsilon_BLK: Tensor, t_BT: Tensor) -> FlowInputs:
        """The interpolant for given noise and times."""
        layout = self.layout
        data_BLK = structure_embedding(structure_BL, layout.channels, layout.channels) - 1
        noise_BTLK = torch.stack(
            [self._impose(epsilon_BLK, data_BLK, layout.known(stage)) for stage in range(layout.structure_stages)], dim=1
        )
        z_BTLK = torch.lerp(data_BLK[:, None], noise_BTLK, t_BT[:, :, None, None])
        return FlowInputs(z_BTLK, t_BT, noise_BTLK, data_BLK)

    def losses(self, velocity_BTLK: Tensor, inputs: FlowInputs) -> Tensor:
        """Squared error of the data prediction noise - velocity, one mean per stage over images, positions and all channels.

        This is the reference's form; it equals the squared error of the velocity up to rounding.

        Returns:
            float32 ``[T]``.
        """
        predicted_BTLK = inputs.noise_BTLK - velocity_BTLK
        return (predicted_BTLK - inputs.data_BLK[:, None]).square().mean(dim=(0, 2, 3))

    def times(self, settings: NvgSamplingConfig) -> list[float]:
        """The times 1 = t_0 > … > t_steps = 0 of the integration; the velocity is needed at all but the last."""
        return time_grid(settings.flow_steps, settings.flow_schedule, self.layout.positions)

    def scores(
        self,
        predict: Callable[[Tensor, int], Tensor],
        se_BLK: Tensor,
        stage: int,
        noise_BLK: Tensor,
        settings: NvgSamplingConfig,
    ) -> Tensor:
        """The values that split the clusters of ``stage``: Euler integration from noise to data.

        All outcomes of the last split are equivalent, so the noise decides it.

        Args:
            predict: the network with its conditions and guidance bound: ``[B, L, K]`` and an index into `times` to the velocity
                there.
            se_BLK: structure embedding of ``stage``, values 0, 1, 2.
            stage: 0 … K - 1.
            noise_BLK: standard normal; the same for every stage of an image.
            settings: ``flow_steps`` and ``flow_schedule``.

        Returns:
            ``[B, L, b]``: the next b channels, around -1 … +1.
        """
        layout = self.layout
        known, after = layout.known(stage), layout.known(stage + 1)
        z_BLK = noise_BLK
        if stage < layout.structure_stages:
            data_BLK = se_BLK - 1
            z_BLK = self._impose(z_BLK, data_BLK, known)
            for step, (now, later) in enumerate(itertools.pairwise(self.times(settings))):
                z_BLK = self._impose(z_BLK + (later - now) * predict(z_BLK, step), data_BLK, known)
        return z_BLK[..., known:after]

    def _impose(self, values_BLK: Tensor, data_BLK: Tensor, known: int) -> Tensor:
        """Partial noise: the first ``known`` channels become the data; pure noise changes nothing."""
        if not self.partial_noise or known == 0:
            return values_BLK
        return torch.cat((data_BLK[..., :known], values_BLK[..., known:]), dim=-1)


def time_grid(steps: int, schedule: Literal["shifted", "uniform"], positions: int) -> list[float]:
    """Times 1 = t_0 > … > t_steps = 0 of the integration.

    ``shifted`` puts more steps near the noise, the more positions there are: t' = e^mu / (e^mu + 1/t - 1) with mu linear in
    the number of positions, 0.5 at 256 and 1.15 at 4096 (the schedule of FLUX, which the reference uses).
    """
    uniform = [1 - step / steps for step in range(steps + 1)]
    if schedule == "uniform":
        return uniform
    shift = math.exp(0.5 + (1.15 - 0.5) * (positions - 256) / (4096 - 256))
    return [shift / (shift + (1 / t - 1)) if t > 0 else 0.0 for t in uniform]


def _normal(rng: torch.Generator, shape: tuple[int, ...], device: torch.device) -> Tensor:
    return torch.randn(shape, generator=rng, device=rng.device).to(device)
