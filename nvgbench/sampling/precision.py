"""Sampling with bf16 weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from itertools import chain
from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def bf16_copy(module: M, linears: Iterable[nn.Linear]) -> M:
    """A copy of ``module`` in which these linear layers have bf16 weights; all other tensors are shared with the original.

    The copy does not follow later changes of the original's weights, see `nvgbench.sampling.capture.weights_version`.
    """
    half = {id(weight) for linear in linears for weight in linear.parameters()}
    shared = {
        id(tensor): nn.Parameter(tensor.detach().to(torch.bfloat16), requires_grad=False) if id(tensor) in half else tensor
        for tensor in chain(module.parameters(), module.buffers())
    }
    return copy.deepcopy(module, shared)
