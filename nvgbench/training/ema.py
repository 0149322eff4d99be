"""An exponential moving average of a module's parameters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Ema:
    """float32 averages of the trained parameters; buffers and frozen parameters are taken as they are.

    The decay warms up as min(decay, (1 + step) / (10 + step)), so that the initial weights do not dominate
    short trainings.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = module
        self.decay = decay
        self._parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self._averages = {name: value.detach().float().clone() for name, value in self._parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after training step ``step`` (counted from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = [value.float() for value in self._parameters.values()]
        torch._foreach_lerp_(list(self._averages.values()), current, 1 - decay)

    def state_dict(self) -> dict[str, Tensor]:
        """A state dict of the whole module with the averages in place of the trained parameters."""
        state = {name: value.detach() for name, value in self.module.state_dict().items()}
        return state | {name: value.to(state[name].dtype) for name, value in self._averages.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the averages from what `state_dict` returned."""
        for name, average in self._averages.items():
            average.copy_(state[name])
