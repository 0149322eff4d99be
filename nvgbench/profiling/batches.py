"""The largest batch that pays."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch

from nvgbench.interfaces import ImageGenerator
from nvgbench.profiling.details import sample_request, without_graphs
from nvgbench.profiling.latency import time_repetitions

LEAST_GAIN = 1.05
"""Throughput over that of a quarter of the batch."""


def batch_that_pays(generator: ImageGenerator, limit: int, settings: Mapping[str, Any], device: torch.device) -> int:
    """The largest of 1, 4, 16 … up to ``limit`` that fits and whose throughput is 5 % above the one before.

    Timed without graphs: at batches where launches matter, larger ones pay in any case.
    """
    best, best_rate = 1, 0.0
    batch = 1
    while batch <= limit:
        request = sample_request(generator, batch, settings)
        try:
            with without_graphs(generator):
                call = functools.partial(generator.generate, request)
                (seconds,) = time_repetitions(call, device, repeats=1, warmup=1)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
            return best
        if batch / seconds < LEAST_GAIN * best_rate:
            return best
        best, best_rate = batch, batch / seconds
        batch *= 4
    return best
