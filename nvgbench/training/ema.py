"""Exponential moving average of a module's parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """float32 averages of the trained parameters; buffers and frozen parameters are not averaged.

    The decay warms up as min(decay, (1 + step) / (10 + step)), so that the initial weights do not dominate short trainings.
    `torch.optim.swa_utils.AveragedModel` would copy the first weights instead of averaging them with the initial ones, and keep
    a second module with all its buffers.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module = module
        self.decay = decay
        self._parameters = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self._averages = {name: value.detach().float().clone() for name, value in self._parameters.items()}

    @property
    def averages(self) -> list[Tensor]:
        """float32, one per trained parameter."""
        return list(self._averages.values())

    def update(self, step: int) -> None:
        """Update the averages with the weights after training step ``step`` (from 0)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = [value.float() for value in self._parameters.values()]
        get_ema_multi_avg_fn(decay)(list(self._averages.values()), current, step)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The module with its averaged weights; afterwards it has its own again, bit for bit."""
        own = {name: value.detach().clone() for name, value in self._parameters.items()}
        self._overwrite(self._averages)
        try:
            yield
        finally:
            self._overwrite(own)

    @torch.no_grad()
    def _overwrite(self, weights: Mapping[str, Tensor]) -> None:
        for name, value in self._parameters.items():
            value.copy_(weights[name])

    def state_dict(self) -> dict[str, Tensor]:
        """The module's state dict with the averages in place of the trained parameters."""
        state = {name: value.detach() for name, value in self.module.state_dict().items()}
        return state | {name: value.to(state[name].dtype) for name, value in self._averages.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the averages from what `state_dict` returned."""
        for name, average in self._averages.items():
            average.copy_(state[name])
