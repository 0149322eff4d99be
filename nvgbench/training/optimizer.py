"""One AdamW a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nvgbench.config.schema import PhaseConfig
from nvgbench.training.distributed import Processes


class ModuleOptimizer:
    """AdamW over the trained parameters of one module, with clipping.

    Weight decay acts on parameters of two or more dimensions only: gains, biases and the like are not pulled to zero.
    """

    def __init__(self, module: nn.Module, phase: PhaseConfig, processes: Processes) -> None:
        self.parameters = [value for value in module.parameters() if value.requires_grad]
        assert self.parameters, "a trained module has no parameters"
        self._clip_norm = phase.clip_norm
        self._processes = processes
        groups = [
            {"params": [value for value in self.parameters if value.ndim >= 2], "weight_decay": phase.weight_decay},
            {"params": [value for value in self.parameters if value.ndim < 2], "weight_decay": 0.0},
        ]
        self._adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=phase.learning_rate,
            betas=phase.betas,
            fused=self.parameters[0].device.type in ("cpu", "cuda"),
        )

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``; nothing but this module's parameters is touched."""
        loss.backward(inputs=self.parameters)

    def step(self, learning_rate: float) -> Tensor:
        """Update the weights with the gradients collected so far and forget these; returns their norm before clipping."""
        self._processes.average_gradients(self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, self._clip_norm, foreach=True)
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> dict[str, object]:
        return self._adamw.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        self._adamw.load_state_dict(state)
