"""What the device itself reaches: the bf16 matrix product and the copy that everything else is a share of."""

from __future__ import annotations

import functools

import torch

from benchmarks.gpu.bench import Bench


def measure(bench: Bench) -> None:
    """Product of square matrices (FLOP/s, 2 x multiply-accumulates) and copy within the device (B/s, read and written)."""
    side, entries = (512, 2**20) if bench.tiny else (8192, 2**30)
    for name, dtype in {"bf16": torch.bfloat16, "fp32": torch.float32}.items():
        a, b = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
        seconds = bench.time(functools.partial(torch.matmul, a, b))
        bench.add("matrix product", "rate", "FLOP/s", tuple(2 * side**3 / s for s in seconds), size=side, precision=name)
        del a, b
    source = torch.randint(0, 255, (entries,), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    seconds = bench.time(lambda: target.copy_(source))
    bench.add("copy", "rate", "B/s", tuple(2 * entries / s for s in seconds), size=entries)


def matmul_peak(bench: Bench, dtype: torch.dtype) -> float:
    """FLOP/s of the product of large matrices now, for shares of the peak within a step."""
    side = 512 if bench.tiny else 8192
    a, b = (torch.randn(side, side, device=bench.device).to(dtype) for _ in range(2))
    seconds = sorted(bench.time(lambda: a @ b))
    return 2 * side**3 / seconds[len(seconds) // 2]
