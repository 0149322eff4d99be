"""Numeric precision of the training, and what makes it repeatable on a CPU."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal

import torch

from nvgbench.device import resolve_precision as resolve_precision

Precision = Literal["auto", "fp32", "bf16"]


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager:
    """Context for the losses: weights stay float32; with bf16, matrix products and convolutions run in bf16."""
    if resolve_precision(precision, device) == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Make CPU training bitwise repeatable (with the same number of threads).

    Without this, gradients of indexing are summed by several threads in any order. Nothing changes on CUDA, where kernels
    without a deterministic form would have to be forbidden: runs there agree up to rounding only.
    """
    if device.type != "cpu":
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    settings: Any = torch.utils.deterministic
    fill = settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = False  # it costs a pass over every new tensor
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        settings.fill_uninitialized_memory = fill
