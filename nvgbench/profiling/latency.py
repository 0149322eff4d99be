"""Wall-clock time of a workload: warmed up, synchronised, every repetition kept."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from nvgbench.errors import InputError
from nvgbench.profiling.machine import synchronize


@dataclass(frozen=True)
class Spread:
    """Summary of raw samples: median and quartiles (all equal for a single sample)."""

    median: float
    low: float
    high: float


def time_repetitions(workload: Callable[[], object], device: torch.device, *, repeats: int, warmup: int) -> tuple[float, ...]:
    """Seconds of each of ``repeats`` calls, after ``warmup`` untimed calls.

    The clock is monotonic and is read only while the device is idle.

    Raises:
        InputError: fewer than one repetition or a negative warm-up.
    """
    if repeats < 1 or warmup < 0:
        raise InputError(f"repeats = {repeats}, warmup = {warmup}; expected at least 1 and at least 0")
    for _ in range(warmup):
        workload()
    samples = []
    for _ in range(repeats):
        synchronize(device)
        began = time.perf_counter()
        workload()
        synchronize(device)
        samples.append(time.perf_counter() - began)
    return tuple(samples)


def spread(samples: Sequence[float]) -> Spread:
    """Median and quartiles.

    Raises:
        InputError: no samples.
    """
    if not samples:
        raise InputError("no samples to summarise; the quantity was not available")
    if len(samples) == 1:
        return Spread(samples[0], samples[0], samples[0])
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Spread(middle, low, high)
