"""Flow maps of bits: the network predicts where a jump from t to s < t aims, as one probability per bit.

X(z, t, s) = (s / t)·z + (1 - s / t)·pi(z, t, s), where pi in (-1, 1) is 2·sigmoid(logit) - 1. On the diagonal s = t, pi is the
mean of the data given z, fitted by cross-entropy. Off it, there are two losses; both differentiate by the target time only.

* Lagrangian (arXiv 2505.18825): dX/ds = v(X, s), the velocity of the diagonal. With v(x, s) = (x - pi(x, s, s)) / s and
  g = 1 - s / t, multiplied by s, that is: pi - g·s·dpi/ds = pi(X, s, s). Replaced by a difference towards the diagonal, dpi/ds
  makes pi the average of pi(X, s, s) and pi(z, t, s + step) with weights 1 and g·s / step, which is the target (without
  gradient) of a cross-entropy. Information so flows from the diagonal to longer jumps. The squared residual itself, with the
  gradient of the derivative, has spurious near-solutions whose pi saturates right off the diagonal.
* Endpoint consistency of categorical flow maps (arXiv 2602.12233), which have noise at 0 and data at 1: in our time
  4·CE(sg pi(X, s, s), pi) + 2·g²·|dpi/ds|². It bounds the squared Lagrangian residual, weighted by s² <= 1, from above
  (Pinsker's inequality and |a + b|² <= 2|a|² + 2|b|²). Its minimum is not the flow map, for which neither term vanishes.

Shape letters: see `nvgbench.nvg.structure_flow.objective`; M the rows off the diagonal, D those on it.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure_flow.jump import JumpObjective, Rows, broadcast, pair, uniform_pairs
from nvgbench.nvg.structure_flow.objective import FlowInputs, Network

_STEP = 0.04
"""Of the difference by the target time."""


class FlowMap(JumpObjective):
    """Flow map with a prediction of the endpoint.

    Args:
        loss: off the diagonal, see the top of this file.
    """

    training_passes = 3 + 2 / 2

    def __init__(
        self, layout: StageLayout, partial_noise: bool, loss: Literal["endpoint", "lagrangian"] = "lagrangian"
    ) -> None:
        super().__init__(layout, partial_noise)
        self.loss = loss
        if loss == "endpoint":
            self.training_passes = 3 + (3 + 1) / 2  # the derivative has a gradient

    @classmethod
    def of(cls, config: NvgModelConfig, layout: StageLayout) -> FlowMap:
        return cls(layout, config.structure_input == "partial-noise", config.flow_map_loss)

    def draw_jumps(self, rng: torch.Generator, shape: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        return uniform_pairs(rng, shape, device)

    def losses(self, network: Network, inputs: FlowInputs, teacher: Network | None = None) -> Tensor:
        rows = self.rows(inputs, teacher)
        on_D, off_M = self.on_and_off(len(inputs.t_BT), rows.t_N.device)
        loss_N = rows.z_NLK.new_zeros(len(rows.t_N))
        loss_N = loss_N.index_copy(0, on_D, self._diagonal(network, rows.at(on_D), on_D, teacher is not None))
        loss_N = loss_N.index_copy(0, off_M, self._jumps(network, rows.at(off_M), off_M))
        return self.per_stage(loss_N)

    def velocity(self, output: Tensor, z_BLK: Tensor, t: Tensor | float) -> Tensor:
        return (z_BLK - endpoint(output)) / t

    def _diagonal(self, network: Network, rows: Rows, rows_D: Tensor, taught: bool) -> Tensor:
        """Cross-entropy to the data, or to the endpoint of the teacher's velocity, ``[D]``."""
        logits_DLK = network(rows.z_NLK, pair(rows.t_N, rows.t_N), rows_D)
        data_DLK = rows.z_NLK - broadcast(rows.t_N) * rows.velocity_NLK if taught else rows.data_NLK
        return _mean(cross_entropy(logits_DLK, data_DLK.clamp(-1, 1)), rows.open_N1K)

    def _jumps(self, network: Network, rows: Rows, rows_M: Tensor) -> Tensor:
        """The loss off the diagonal, ``[M]``."""
        g_M11 = broadcast(1 - rows.target_N / rows.t_N.clamp_min(1e-6))
        logits_MLK = network(rows.z_NLK, pair(rows.t_N, rows.target_N), rows_M)
        with torch.no_grad():
            reached_MLK = torch.lerp(rows.z_NLK, endpoint(logits_MLK), g_M11 * rows.open_N1K)
            aim_MLK = endpoint(network(reached_MLK, pair(rows.target_N, rows.target_N), rows_M))
        step_M = (rows.t_N - rows.target_N).clamp(1e-4, _STEP)
        shorter = pair(rows.t_N, rows.target_N + step_M)
        if self.loss == "endpoint":
            slope_MLK = (endpoint(network(rows.z_NLK, shorter, rows_M)) - endpoint(logits_MLK)) / broadcast(step_M)
            loss_MLK = 4 * cross_entropy(logits_MLK, aim_MLK) + 2 * (g_M11 * slope_MLK).square()
            return _mean(loss_MLK, rows.open_N1K)
        with torch.no_grad():
            weight_M11 = g_M11 * broadcast(rows.target_N / step_M)
            shorter_MLK = endpoint(network(rows.z_NLK, shorter, rows_M))
            aim_MLK = torch.lerp(aim_MLK, shorter_MLK, weight_M11 / (1 + weight_M11))
        return _mean(cross_entropy(logits_MLK, aim_MLK), rows.open_N1K)


def endpoint(logits: Tensor) -> Tensor:
    """Logits of a bit to its mean in (-1, 1)."""
    return torch.tanh(logits / 2)


def cross_entropy(logits: Tensor, data: Tensor) -> Tensor:
    """Elementwise, in nats; ``data`` in [-1, 1] is 2·probability - 1."""
    return F.binary_cross_entropy_with_logits(logits, (data + 1) / 2, reduction="none")


def _mean(value_NLK: Tensor, open_N1K: Tensor) -> Tensor:
    """Mean over positions and the channels that are generated, ``[N]``."""
    return (value_NLK.mean(dim=1) * open_N1K[:, 0]).sum(-1) / open_N1K[:, 0].sum(-1)
