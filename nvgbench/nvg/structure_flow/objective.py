"""What every objective of the structure generator provides, and the interpolant they share.

Time: t = 0 data, t = 1 noise, z_t = (1 - t)·data + t·noise, velocity = noise - data. Data are the structure embedding minus
one, so -1 and +1.

An objective covers all K channels at every stage, though some are already decided. Partial noise (Table 3) overwrites these
with their true values, which turns generation into inpainting and lets one network serve all stages. It is applied to the noise
end in training, and to the start and every step of the sampling.

Shape letters: B batch, T structure stages (K - 1), N rows (an image at a stage; B x T, image after image), L positions,
K structure channels, b channels decided by one split.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from nvgbench.nvg.config import NvgModelConfig, NvgSamplingConfig
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure import structure_embedding

Network = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""The structure generator in training, with its conditions bound: ``z [N, L, K]``, times ``[N]`` (or ``[N, 2]``: time and
target time) and the int64 indices of these rows (None: all) to its output ``[N, L, K]``."""
Predict = Callable[[Tensor, int], Tensor]
"""The same in sampling, with guidance: ``z [B, L, K]`` and an index into `StructureObjective.evaluations`."""


@dataclass(frozen=True)
class FlowInputs:
    """Noised structure maps of one batch.

    Attributes:
        z_BTLK: input of the network, (1 - t)·data + t·noise.
        t_BT: times.
        noise_BTLK: the noise end; with partial noise, decided channels hold the data.
        data_BLK: -1 and +1; the target at every stage.
        target_BT: times to go to, at most ``t_BT``, of objectives with two times.
    """

    z_BTLK: Tensor
    t_BT: Tensor
    noise_BTLK: Tensor
    data_BLK: Tensor
    target_BT: Tensor | None = None

    def evaluate(self, network: Network) -> Tensor:
        """The network's output at these inputs, ``[B, T, L, K]``."""
        output_NLK = network(self.z_BTLK.flatten(0, 1), self.t_BT.flatten(), None)
        return output_NLK.unflatten(0, (len(self.t_BT), -1))


class StructureObjective(ABC):
    """Interpolant, loss and solver of the structure maps.

    Attributes:
        layout: grid and stages.
        partial_noise: whether the network sees the decided channels.
        two_times: whether the network gets a second time, the one to go to.
        distils: whether `losses` can use a teacher.
        training_passes: cost of `losses` in forward passes of the network without a teacher; a pass with gradient counts 3.
        loss_name: of the loss in the training log.
    """

    two_times: ClassVar[bool] = False
    distils: ClassVar[bool] = False
    training_passes: float = 3
    loss_name: ClassVar[str] = "structure_loss"

    def __init__(self, layout: StageLayout, partial_noise: bool) -> None:
        self.layout, self.partial_noise = layout, partial_noise

    @classmethod
    def of(cls, config: NvgModelConfig, layout: StageLayout) -> StructureObjective:
        """The objective with the options of a configuration."""
        return cls(layout, config.structure_input == "partial-noise")

    @abstractmethod
    def draw(self, structure_BL: Tensor, rng: torch.Generator) -> FlowInputs:
        """Noise a batch for training.

        Args:
            structure_BL: int64 structure maps of the last stage.
            rng: source of all random numbers.
        """

    @abstractmethod
    def losses(self, network: Network, inputs: FlowInputs, teacher: Network | None = None) -> Tensor:
        """The loss of each stage, a mean over images, positions and channels, float32 ``[T]``.

        Args:
            network: what is trained.
            inputs: of `draw`.
            teacher: a frozen network of the objective ``flow`` whose velocity replaces noise - data; only if `distils`.
        """

    @abstractmethod
    def evaluations(self, settings: NvgSamplingConfig) -> list[tuple[float, ...]]:
        """The times (or time and target time) at which sampling evaluates the network, one per index of ``predict``."""

    def training_cost(self, taught: bool) -> float:
        """Forward passes of the network, the teacher's included, that a training step costs per image and stage."""
        return self.training_passes + taught

    def passes(self, settings: NvgSamplingConfig) -> int:
        """Forward passes of the network per split."""
        return len(self.evaluations(settings))

    def scores(self, predict: Predict, se_BLK: Tensor, stage: int, noise_BLK: Tensor, settings: NvgSamplingConfig) -> Tensor:
        """The values that split the clusters of ``stage``.

        All outcomes of the last split are equivalent, so the noise decides it.

        Args:
            predict: the network with its conditions and guidance bound.
            se_BLK: structure embedding of ``stage``, values 0, 1, 2.
            stage: 0 … K - 1.
            noise_BLK: standard normal; the same for every stage of an image.
            settings: ``flow_steps``, ``flow_schedule`` and ``flow_solver``.

        Returns:
            ``[B, L, b]``: the next b channels, around -1 … +1.
        """
        known, after = self.layout.known(stage), self.layout.known(stage + 1)
        if stage >= self.layout.structure_stages:
            return noise_BLK[..., known:after]
        data_BLK = se_BLK - 1
        return self.generate(
            predict, noise_BLK, lambda values_BLK: self._impose(values_BLK, data_BLK, known), slice(known, after), settings
        )

    @abstractmethod
    def generate(
        self,
        predict: Predict,
        noise_BLK: Tensor,
        impose: Callable[[Tensor], Tensor],
        channels: slice,
        settings: NvgSamplingConfig,
    ) -> Tensor:
        """The generated ``channels``; ``impose`` overwrites those that are decided. See `scores`."""

    def mix(self, structure_BL: Tensor, epsilon_BLK: Tensor, t_BT: Tensor, target_BT: Tensor | None = None) -> FlowInputs:
        """The interpolant for given noise, one map per image that its stages share, and times."""
        layout = self.layout
        data_BLK = structure_embedding(structure_BL, layout.channels, layout.channels) - 1
        noise_BTLK = torch.stack(
            [self._impose(epsilon_BLK, data_BLK, layout.known(stage)) for stage in range(layout.structure_stages)], dim=1
        )
        z_BTLK = torch.lerp(data_BLK[:, None], noise_BTLK, t_BT[:, :, None, None])
        return FlowInputs(z_BTLK, t_BT, noise_BTLK, data_BLK, target_BT)

    def per_stage(self, loss_N: Tensor) -> Tensor:
        """Mean over images of a loss per row, ``[T]``."""
        return loss_N.unflatten(0, (-1, self.layout.structure_stages)).mean(dim=0)

    def open_channels(self, device: torch.device) -> Tensor:
        """Whether a channel is not decided yet, float32 ``[T, 1, K]``; with pure noise, all are generated."""
        known = [self.layout.known(stage) * self.partial_noise for stage in range(self.layout.structure_stages)]
        known_T11 = torch.tensor(known, device=device)[:, None, None]
        return (torch.arange(self.layout.channels, device=device) >= known_T11).float()

    def _impose(self, values_BLK: Tensor, data_BLK: Tensor, known: int) -> Tensor:
        """Partial noise: the first ``known`` channels become the data; pure noise changes nothing."""
        if not self.partial_noise or known == 0:
            return values_BLK
        return torch.cat((data_BLK[..., :known], values_BLK[..., known:]), dim=-1)


def normal(rng: torch.Generator, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Standard normal numbers, float32."""
    return torch.randn(shape, generator=rng, device=rng.device).to(device)


def uniform(rng: torch.Generator, shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Uniform numbers in [0, 1), float32."""
    return torch.rand(shape, generator=rng, device=rng.device).to(device)
