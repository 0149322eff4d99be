"""Chooses between the implementations of the hierarchy; all of them give the same labels."""

from __future__ import annotations

import importlib
import warnings
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from nvgbench.nvg.clustering import batched
from nvgbench.nvg.clustering.batched import TieBreak

_FAST = {"cpu": "compiled", "cuda": "kernel"}
# By implementation and number of positions: code is compiled for each.
_failures: dict[tuple[str, int], str] = {}


def finest_maps(points_BLC: Tensor, tie_break: TieBreak) -> Tensor:
    """The last structure map of the binary hierarchy, computed by the fastest implementation available.

    Numba (extra ``fast``) on a CPU and Triton on a GPU are used if installed. If they fail, a warning says so once and tensor
    operations take over.

    Args:
        points_BLC: integers from `integer_points`, float64.
        tie_break: order of equal distances.

    Returns:
        int64 ``[B, L]``.
    """
    fast = fast_implementation(points_BLC.device.type)
    length = points_BLC.shape[1]
    if fast is None or length > fast.MAX_POSITIONS or (fast.__name__, length) in _failures:
        return batched.finest_maps(points_BLC, tie_break)
    try:
        return fast.finest_maps(points_BLC, tie_break)
    except torch.cuda.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a compiler raises
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        _failures[fast.__name__, length] = f"{fast.__name__} failed for {length} positions ({reason})"
        warnings.warn(f"{_failures[fast.__name__, length]}; using tensor operations", stacklevel=2)
        return batched.finest_maps(points_BLC, tie_break)


@cache
def fast_implementation(device_type: str) -> ModuleType | None:
    """The compiled implementation for ``cpu`` or ``cuda``; None if there is none or its compiler is not installed."""
    try:
        return importlib.import_module(f"nvgbench.nvg.clustering.{_FAST[device_type]}")
    except (KeyError, ImportError):
        return None


def failures() -> tuple[str, ...]:
    """Why compiled implementations are no longer used in this process, one line each."""
    return tuple(_failures.values())
