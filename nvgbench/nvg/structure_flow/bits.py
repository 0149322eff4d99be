"""What objectives without a flow share: the next bits are predicted directly, given those that are revealed already.

The network's input holds -1 or +1 where a bit is known, and 0 where it is not: all of the later channels, and those positions
of the next ones that are still hidden. Its time is the share of hidden positions. Bits are drawn independently within a pass.

Shape letters: see `nvgbench.nvg.structure_flow.objective`.
"""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from nvgbench.nvg.config import NvgSamplingConfig
from nvgbench.nvg.structure_flow.flow_map import cross_entropy
from nvgbench.nvg.structure_flow.objective import FlowInputs, Network, Predict, StructureObjective, uniform


class BitObjective(StructureObjective):
    """Cross-entropy of the hidden bits; a number of passes, each of which reveals some positions."""

    @abstractmethod
    def hidden(self, rng: torch.Generator, shape: tuple[int, int], device: torch.device) -> Tensor:
        """Which positions are hidden in training, float32 ``[B, T, L]``; at least one each."""

    @abstractmethod
    def order(self, noise_BL: Tensor) -> Tensor:
        """The rank at which each position is revealed in sampling, int64 ``[B, L]`` (or ``[1, L]``).

        Args:
            noise_BL: standard normal numbers that may decide it.
        """

    @abstractmethod
    def revealed(self, passes: int) -> list[int]:
        """Number of positions revealed before each pass, 0 first, then L at the end."""

    def draw(self, structure_BL: Tensor, rng: torch.Generator) -> FlowInputs:
        """``noise_BTLK`` is 1 at the bits to predict, 0 elsewhere; ``t_BT`` the share of hidden positions."""
        layout, batch, device = self.layout, len(structure_BL), structure_BL.device
        shape = batch, layout.structure_stages
        hidden_BTL = self.hidden(rng, shape, device)
        zeros_BLK = torch.zeros(batch, layout.positions, layout.channels, device=device)
        base = self.mix(structure_BL, zeros_BLK, torch.ones(shape, device=device))
        next_TK = self._next_channels(device)
        hidden_BTLK = hidden_BTL[..., None] * next_TK[:, None]
        shown_BTLK = (1 - hidden_BTL)[..., None] * next_TK[:, None]
        z_BTLK = torch.where(shown_BTLK > 0, base.data_BLK[:, None], base.z_BTLK)
        return FlowInputs(z_BTLK, hidden_BTL.mean(-1), hidden_BTLK, base.data_BLK)

    def losses(self, network: Network, inputs: FlowInputs, teacher: Network | None = None) -> Tensor:
        assert teacher is None, "there is no flow to distil"
        hidden_BTLK, logits_BTLK = inputs.noise_BTLK, inputs.evaluate(network)
        entropy_BTLK = cross_entropy(logits_BTLK, inputs.data_BLK[:, None].expand_as(logits_BTLK)) * hidden_BTLK
        return (entropy_BTLK.sum(dim=(2, 3)) / hidden_BTLK.sum(dim=(2, 3))).mean(dim=0)

    def evaluations(self, settings: NvgSamplingConfig) -> list[tuple[float, ...]]:
        counts = self.revealed(settings.flow_steps)[:-1]
        return [(1 - count / self.layout.positions,) for count in counts]

    def generate(
        self,
        predict: Predict,
        noise_BLK: Tensor,
        impose: Callable[[Tensor], Tensor],
        channels: slice,
        settings: NvgSamplingConfig,
    ) -> Tensor:
        """Scores tanh((logit + logistic noise) / 2): their sign is a bit drawn with the network's probability.

        The noise map decides the bits; its last channel, which no network reads, decides the order.
        """
        z_BLK = impose(torch.zeros_like(noise_BLK))
        noise_BLb = logistic(noise_BLK[..., channels])
        rank_BL1 = self.order(noise_BLK[..., -1])[..., None]
        scores_BLb = torch.zeros_like(noise_BLb)
        counts = self.revealed(settings.flow_steps)
        for step, (start, stop) in enumerate(itertools.pairwise(counts)):
            drawn_BLb = torch.tanh((predict(z_BLK, step)[..., channels] + noise_BLb) / 2)
            now_BL1 = (rank_BL1 >= start) & (rank_BL1 < stop)
            scores_BLb = torch.where(now_BL1, drawn_BLb, scores_BLb)
            shown_BLb = torch.where(rank_BL1 < stop, torch.where(scores_BLb > 0, 1.0, -1.0), 0.0)
            z_BLK = torch.cat((z_BLK[..., : channels.start], shown_BLb, z_BLK[..., channels.stop :]), dim=-1)
        return scores_BLb

    def _next_channels(self, device: torch.device) -> Tensor:
        """Which channels each stage decides, float32 ``[T, K]``."""
        layout = self.layout
        first = [layout.known(stage) for stage in range(layout.structure_stages + 1)]
        first_T1, after_T1 = (torch.tensor(ends, device=device)[:, None] for ends in (first[:-1], first[1:]))
        channel_K = torch.arange(layout.channels, device=device)
        return ((channel_K >= first_T1) & (channel_K < after_T1)).float()


def logistic(normal: Tensor) -> Tensor:
    """Standard normal numbers to logistic ones, by their quantiles."""
    return torch.special.log_ndtr(normal) - torch.special.log_ndtr(-normal)


def random_prefix(rng: torch.Generator, shape: tuple[int, int], positions: int, device: torch.device) -> Tensor:
    """Numbers of revealed positions, 0 … L - 1, float32 ``[B, T, 1]``."""
    return (uniform(rng, shape, device) * positions).floor()[..., None]
