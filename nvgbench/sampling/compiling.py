"""torch.compile for the one function of a model that takes most of the time, e.g. its block."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar, cast

import torch

F = TypeVar("F", bound=Callable)

_VARIANTS = 64


@functools.cache
def compiled(function: F, dynamic: bool = False) -> F:
    """``function`` compiled as a whole; inductor keeps the code on disk between processes.

    Args:
        function: of tensors.
        dynamic: one code for all shapes (but for sizes of 1) instead of one for each.
    """
    # Each combination of batch size, network and precision is a variant; torch's limit of 8 would end in an error.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _VARIANTS)
    return cast(F, torch.compile(function, fullgraph=True, dynamic=dynamic))
