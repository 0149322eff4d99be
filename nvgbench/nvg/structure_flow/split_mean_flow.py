"""SplitMeanFlow (arXiv 2507.16884): an average velocity without any derivative, from the additivity of the integral.

For r <= s <= t: (t - r)·u(t, r) = (s - r)·u(s, r) + (t - s)·u(t, s). The right side, without gradient, is the target of the
left one; on the diagonal the network fits noise - data (or the teacher's velocity). Their time axis is ours.

Shape letters: see `nvgbench.nvg.structure_flow.objective`; M the rows off the diagonal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nvgbench.nvg.structure_flow.jump import JumpObjective, Rows, broadcast, pair, uniform_pairs
from nvgbench.nvg.structure_flow.objective import FlowInputs, Network


class SplitMeanFlow(JumpObjective):
    """A jump equals two shorter ones with a random time between."""

    training_passes = 3 + 2 / 2

    def draw_jumps(self, rng: torch.Generator, shape: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        return uniform_pairs(rng, shape, device)

    def share(self, rows: Rows) -> Tensor:
        """Share of the second jump, (s - r) / (t - r), ``[M]``."""
        return torch.rand_like(rows.t_N)

    def losses(self, network: Network, inputs: FlowInputs, teacher: Network | None = None) -> Tensor:
        rows = self.rows(inputs, teacher)
        _, off_M = self.on_and_off(len(inputs.t_BT), rows.t_N.device)
        jumping = rows.at(off_M)
        target_NLK = rows.velocity_NLK.index_copy(0, off_M, self._composed(network, jumping, off_M).to(rows.velocity_NLK.dtype))
        output_NLK = network(rows.z_NLK, pair(rows.t_N, rows.target_N), None)
        return self.per_stage((output_NLK - target_NLK).square().mean(dim=(1, 2)))

    @torch.no_grad()
    def _composed(self, network: Network, rows: Rows, rows_M: Tensor) -> Tensor:
        """The average velocity of two jumps."""
        share_M = self.share(rows)
        between_M = rows.target_N + share_M * (rows.t_N - rows.target_N)
        first_MLK = network(rows.z_NLK, pair(rows.t_N, between_M), rows_M) * rows.open_N1K
        z_MLK = rows.z_NLK - broadcast(rows.t_N - between_M) * first_MLK
        second_MLK = network(z_MLK, pair(between_M, rows.target_N), rows_M) * rows.open_N1K
        return torch.lerp(first_MLK, second_MLK, broadcast(share_M))
