"""One AdamW per module."""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from nvgbench.config.schema import PhaseConfig
from nvgbench.training.parallel import Parallel
from nvgbench.training.parallel_state import scatter_optimizer, whole


def weight_decay_groups(
    module: nn.Module, exempt: Collection[str] = ()
) -> tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]]:
    """Trained parameters by name: those with weight decay, and those without.

    Exempt are parameters of one dimension (gains, biases), and those whose names match one of the `fnmatch` patterns
    ``exempt`` (positional embeddings, for example).
    """
    groups: tuple[dict[str, nn.Parameter], dict[str, nn.Parameter]] = ({}, {})
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            named = any(fnmatch.fnmatchcase(name, pattern) for pattern in exempt)
            groups[parameter.ndim < 2 or named][name] = parameter
    return groups


def parameter_counts(modules: Mapping[str, nn.Module], training_only: Collection[str] = ()) -> dict[str, int]:
    """Number of trained parameters of each module; children in ``training_only`` are counted under their own names."""
    counts = {}
    for name, module in modules.items():
        counts[name] = _trained(module)
        for child, part in module.named_children():
            if child in training_only:
                counts[child] = _trained(part)
                counts[name] -= counts[child]
    return counts


def _trained(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


class ModuleOptimizer:
    """AdamW for the trained parameters of one module, with gradient clipping; weight decay as in `weight_decay_groups`."""

    def __init__(self, parallel: Parallel, phase: PhaseConfig, exempt: Collection[str] = ()) -> None:
        self.parameters = parallel.parameters
        assert self.parameters, "a trained module has no parameters"
        self._parallel = parallel
        self._clip_norm = phase.clip_norm
        decayed, others = weight_decay_groups(parallel.module, exempt)
        groups = [
            {"params": list(decayed.values()), "weight_decay": phase.weight_decay, "decayed": True},
            {"params": list(others.values()), "weight_decay": 0.0, "decayed": False},
        ]
        self._adamw = torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=phase.learning_rate,
            betas=phase.betas,
            fused=self.parameters[0].device.type in ("cpu", "cuda"),
        )

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """Accumulate the gradients of ``loss``, see `nvgbench.training.parallel.Parallel.backward`."""
        self._parallel.backward(loss, last)

    def step(self, learning_rate: float, weight_decay: float) -> Tensor:
        """Update the weights with the accumulated gradients and clear them; returns their norm before clipping."""
        norm = whole(nn.utils.clip_grad_norm_(self.parameters, self._clip_norm, foreach=True))
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
            group["weight_decay"] = weight_decay if group["decayed"] else 0.0
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        return norm

    @property
    def numbered(self) -> dict[int, Tensor]:
        """The parameters by their number in the state dict."""
        return dict(enumerate(value for group in self._adamw.param_groups for value in group["params"]))

    def state_tensors(self) -> list[Tensor]:
        """The moments of all parameters."""
        return [value for state in self._adamw.state.values() for value in state.values() if isinstance(value, Tensor)]

    def state_dict(self) -> dict[str, Any]:
        return self._adamw.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore a state dict of whole parameters, or of parameters that are sharded as they are here; groups are optional."""
        betas = self._adamw.param_groups[0]["betas"]
        self._adamw.load_state_dict({**self._adamw.state_dict(), **scatter_optimizer(state, self.numbered)})
        for group in self._adamw.param_groups:
            group["betas"] = betas  # may differ from the stored ones; rate and weight decay are set at every step
