"""A linear layer and the tanh form of GELU behind it, without gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import flop_registry, register_flop_formula

# TorchInductor emits this operator for the same pair of layers.
_HAS_EPILOGUE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU of ``x @ weight.T + bias`` for float32 on the CPU.

    oneDNN applies the activation to each tile of the product while the tile is in cache, with a faster tanh than a separate
    GELU has: half of the time for both together. The two forms differ by rounding. Operators of oneDNN have no derivative.

    Args:
        x: ``[..., C]``.
        weight, bias: ``[D, C]`` and ``[D]``.

    Returns:
        ``[..., D]``.
    """
    if _HAS_EPILOGUE:
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "tanh")
        return result
    return F.gelu(F.linear(x, weight, bias), approximate="tanh")


def _flops(x_shape: Sequence[int], weight_shape: Sequence[int], *args: object, **kwargs: object) -> int:
    return 2 * math.prod(x_shape) * weight_shape[0]


if _HAS_EPILOGUE and torch.ops.mkldnn._linear_pointwise not in flop_registry:
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_flops)
