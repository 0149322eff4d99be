"""The precision of sampling: float32, or bf16 weights for most of a transformer's matrix products."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import chain
from typing import Literal, TypeVar

import torch
from torch import nn

from nvgbench.errors import InputError

Precision = Literal["fp32", "bf16"]
PrecisionSetting = Literal["auto", "fp32", "bf16"]

M = TypeVar("M", bound=nn.Module)


def resolve_precision(setting: PrecisionSetting, device: torch.device) -> Precision:
    """``auto`` is bf16 on CUDA devices that support it, as in the original codes, and float32 elsewhere.

    Raises:
        InputError: bf16 was asked for and this GPU lacks it.
    """
    supported = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
    if setting == "bf16" and not supported:
        raise InputError("`sampling.precision=bf16`: this GPU has no bf16 arithmetic; use fp32 or auto")
    if setting == "auto":
        return "bf16" if device.type == "cuda" and supported else "fp32"
    return setting


def bf16_copy(module: M, linears: Iterable[nn.Linear]) -> M:
    """A copy of ``module`` in which these linear layers have bf16 weights; all other tensors are shared with the original."""
    half = {id(weight) for linear in linears for weight in linear.parameters()}
    shared = {
        id(tensor): nn.Parameter(tensor.detach().bfloat16(), requires_grad=False) if id(tensor) in half else tensor
        for tensor in chain(module.parameters(), module.buffers())
    }
    return copy.deepcopy(module, shared)
