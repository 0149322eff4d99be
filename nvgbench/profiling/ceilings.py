"""What this machine can do at most: the rate of one large matrix product, and of one large copy."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch

from nvgbench.profiling.latency import time_repetitions

_SIDES = {"cuda": 8192, "cpu": 1024}
_COPIED = {"cuda": 2**30, "cpu": 2**26}


@dataclass(frozen=True)
class Ceilings:
    """Measured rates.

    Attributes:
        products: FLOP/s of a square product, by dtype (``fp32``, ``bf16``); the best of several.
        copy: B/s of a copy within the device's memory, bytes read and bytes written.
        how: sizes of both.
    """

    products: dict[str, float]
    copy: float
    how: str


@functools.cache
def measure_ceilings(device: torch.device) -> Ceilings:
    """Measure them once per process: a second on a GPU, less on the CPU."""
    side, copied = _SIDES[device.type], _COPIED[device.type]
    # Emulated bf16 products of a CPU take minutes and are nobody's ceiling.
    dtypes = {"fp32": torch.float32} | ({"bf16": torch.bfloat16} if device.type == "cuda" else {})
    products = {}
    for name, dtype in dtypes.items():
        a = torch.randn(side, side, device=device, dtype=dtype)
        product = functools.partial(torch.mm, a, a)
        products[name] = 2 * side**3 / min(time_repetitions(product, device, repeats=5, warmup=2))
    source = torch.rand(copied // 4, device=device)
    target = torch.empty_like(source)
    copy = 2 * copied / min(time_repetitions(lambda: target.copy_(source), device, repeats=5, warmup=2))
    return Ceilings(products, copy, f"{side} x {side} product, copy of {copied // 2**20} MiB, best of 5")
