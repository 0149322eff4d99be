"""A linear layer and the tanh form of GELU behind it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import flop_registry, register_flop_formula

# TorchInductor emits this operator for the same pair of layers. It has no derivative.
_HAS_EPILOGUE = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")
_FEWEST = 2**15
"""Below this many results, preparing oneDNN's call takes longer than it saves."""


def linear_gelu(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """GELU of ``x @ weight.T + bias``.

    In float32 on the CPU and without gradients, oneDNN applies the activation to each tile of the product while the tile is in
    cache, with a faster tanh than a separate GELU has: half of the time for both together. The two forms differ by rounding.

    Args:
        x: ``[..., C]``, in the precision of the weight.
        weight, bias: ``[D, C]`` and ``[D]``.

    Returns:
        ``[..., D]``.
    """
    enough = x.shape[:-1].numel() * len(weight) >= _FEWEST
    if enough and _HAS_EPILOGUE and is_plain(x) and not torch.is_grad_enabled():
        result: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "gelu", [], "tanh")
        return result
    return F.gelu(F.linear(x, weight, bias), approximate="tanh")


def is_plain(x: Tensor) -> bool:
    """Float32 on the CPU, which has faster forms of some layers."""
    return x.device.type == "cpu" and x.dtype is torch.float32 and not torch.is_autocast_enabled("cpu")


def _flops(x_shape: Sequence[int], weight_shape: Sequence[int], *args: object, **kwargs: object) -> int:
    return 2 * math.prod(x_shape) * weight_shape[0]


if _HAS_EPILOGUE and torch.ops.mkldnn._linear_pointwise not in flop_registry:
    register_flop_formula(torch.ops.mkldnn._linear_pointwise)(_flops)
