"""Weights as sampling wants them: in bf16, in the memory format of the activations."""

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


def order_weights(tokenizer: nn.Module, device: torch.device) -> None:
    """On CUDA, store the weights of convolutions as the channels-last activations need them; else each call reorders them."""
    if device.type == "cuda":
        tokenizer.to(memory_format=torch.channels_last)
