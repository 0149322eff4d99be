"""How far float32 may differ from float64: measured, so that it holds on any CPU and for any size of a model.

A computation is repeated in float64 with every result changed at random by up to half a unit in the last place of float32
(Monte Carlo arithmetic; Parker, 1997). The change of the outcome is what one rounding per operation causes, cancellation
included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

Gradients = Mapping[str, Tensor | Mapping[str, Tensor]]
"""Gradients by name, and groups of them of which a fixture stores the l2 norms."""

FACTOR = 256.0
"""Largest difference of float32 from float64, in units of one rounding per operation, as an operation may be a long sum. At
most 65 was measured on CPUs; operands of 10 bits, as in TF32, cause thousands."""
NOISE = 1e-6
"""Gradients of a group below this share of the largest are rounding alone, e.g. that of a bias right before a norm."""
_DRAWS = 2
_HALF_UNIT = 2.0**-24


def roundings(ours: Gradients, exact: Gradients, compute: Callable[[], Gradients]) -> dict[str, np.ndarray]:
    """The differences of float32 from float64, each in units of the change by one rounding per operation.

    Args:
        ours: gradients in float32.
        exact: in float64.
        compute: computes them again in float64.

    Returns:
        By name, one number, or one per gradient of a group: the l2 norm of the difference divided by that of the change.
    """
    draws = []
    for seed in range(_DRAWS):
        with _Rounded(seed):
            draws.append(compute())
    steps = {}
    for name, values in exact.items():
        size = _norms(values)
        change = np.max([_norms(_differences(draw[name], values)) for draw in draws], axis=0)
        step = _norms(_differences(ours[name], values)) / np.maximum(np.maximum(change, _HALF_UNIT * size), 1e-300)
        steps[name] = np.where(size > NOISE * size.max(), step, 0.0)
    return steps


def norm(gradient: Tensor) -> Tensor:
    """The l2 norm, summed in float64: in float32 the sum alone would lose more than the gradient did."""
    return torch.linalg.vector_norm(gradient, dtype=torch.float64)


def norms(group: Mapping[str, Tensor]) -> dict[str, float]:
    """The l2 norm of each gradient."""
    return {name: float(norm(gradient)) for name, gradient in group.items()}


def _differences(values: Any, others: Any) -> Any:
    if isinstance(values, Mapping):
        return {name: _differences(values[name], others[name]) for name in others}
    return values.detach().to(others) - others


def _norms(values: Tensor | Mapping[str, Tensor]) -> np.ndarray:
    return np.array([*norms(values).values()] if isinstance(values, Mapping) else float(norm(values)))


class _Rounded(TorchDispatchMode):
    """Changes every result of an operation, forward and backward; views and whole numbers stay."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._rng = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(output.alias_info is not None for output in func._schema.returns):
            return result
        if isinstance(result, tuple | list):
            return type(result)(self._round(part) for part in result)
        return self._round(result)

    def _round(self, result: Any) -> Any:
        if not isinstance(result, Tensor) or not result.is_floating_point() or bool((result == result.round()).all()):
            return result
        noise = torch.empty_like(result).uniform_(1 - _HALF_UNIT, 1 + _HALF_UNIT, generator=self._rng)
        return noise.mul_(result)
