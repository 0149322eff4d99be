"""Improved mean flows (arXiv 2512.02012): the network predicts the average velocity u over a jump from t to r < t.

The identity u = v - (t - r)·du/dt, with the total derivative along the flow, turns into a regression of the velocity:
|u + (t - r)·sg(du/dt) - v|² with v = noise - data, where the tangent of du/dt is the velocity that the network itself predicts
(that of the teacher, if any). Their time axis is ours. du/dt is a central difference along the tangent: fused attention has no
forward derivative, and two passes without gradient cost less than a Jacobian-vector product.

Shape letters: see `nvgbench.nvg.structure_flow.objective`; M the rows off the diagonal.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nvgbench.nvg.structure_flow.jump import JumpObjective, Rows, broadcast, logit_normal_pairs, pair
from nvgbench.nvg.structure_flow.objective import FlowInputs, Network

_HALF_STEP = 0.01
"""Of the central difference. The sinusoidal time embedding has angles up to 1000 t, whose ripples a true derivative would
multiply by their frequency; this step bounds that factor."""
_ADAPTIVE = 0.01


class MeanFlow(JumpObjective):
    """Mean flow with the velocity loss of iMF."""

    training_passes = 3 + 3 / 2  # half of the rows: tangent and two sides of the difference

    diagonal_mean = -0.4

    def training_cost(self, taught: bool) -> float:
        return self.training_passes + taught / 2  # the teacher's velocity is the tangent too

    def draw_jumps(self, rng: torch.Generator, shape: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        return logit_normal_pairs(rng, shape, device, self.diagonal_mean)

    def losses(self, network: Network, inputs: FlowInputs, teacher: Network | None = None) -> Tensor:
        rows = self.rows(inputs, teacher)
        _, off_M = self.on_and_off(len(inputs.t_BT), rows.t_N.device)
        velocity_NLK = network(rows.z_NLK, pair(rows.t_N, rows.target_N), None)
        with torch.no_grad():
            jumping = rows.at(off_M)
            if teacher is None:
                tangent_MLK = network(jumping.z_NLK, pair(jumping.t_N, jumping.t_N), off_M) * jumping.open_N1K
            else:
                tangent_MLK = jumping.velocity_NLK
            slope_MLK = total_derivative(network, jumping, tangent_MLK, off_M)
            correction_MLK = broadcast(jumping.t_N - jumping.target_N) * slope_MLK
            correction_NLK = torch.zeros_like(rows.z_NLK).index_copy(0, off_M, correction_MLK.to(rows.z_NLK.dtype))
        error_N = (velocity_NLK + correction_NLK - rows.velocity_NLK).square().mean(dim=(1, 2))
        return self.per_stage(_adaptive(error_N))


def total_derivative(network: Network, rows: Rows, tangent_MLK: Tensor, rows_M: Tensor) -> Tensor:
    """d/dt of u(z_t, t, r) along dz/dt = tangent at fixed r, float32, in full precision whatever autocast is on."""
    with torch.autocast(rows.z_NLK.device.type, enabled=False):
        sides = [
            network(rows.z_NLK + step * tangent_MLK.float(), pair(rows.t_N + step, rows.target_N), rows_M)
            for step in (_HALF_STEP, -_HALF_STEP)
        ]
    return (sides[0] - sides[1]) / (2 * _HALF_STEP)


def _adaptive(error_N: Tensor) -> Tensor:
    """The gradient of error / sg(error + 0.01), with the value of the error itself, which can be read in a log."""
    return error_N.detach() + (error_N - error_N.detach()) / (error_N.detach() + _ADAPTIVE)
