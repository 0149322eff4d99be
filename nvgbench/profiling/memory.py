"""Peak memory of a piece of work, bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psutil
import torch

from nvgbench.profiling.machine import synchronize
from nvgbench.types import Measurement

SAMPLING_INTERVAL = 0.002
"""Seconds between two looks at the process's memory."""


def peak_cuda_memory(workload: Callable[[], object], device: torch.device) -> Measurement:
    """Peak of the memory that tensors held on the GPU while ``workload`` ran, model weights included.

    What the caching allocator had reserved is in the conditions. Not available without CUDA.
    """
    name = "peak_memory_cuda"
    if device.type != "cuda":
        return Measurement(name=name, unit="B", samples=(), note="not available: the model ran on the CPU")
    synchronize(device)
    # First give back what earlier work left in the cache, then forget its peak; the other order would count the cache.
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    workload()
    synchronize(device)
    reserved = torch.cuda.max_memory_reserved(device)
    return Measurement(
        name=name, unit="B", samples=(float(torch.cuda.max_memory_allocated(device)),), conditions={"reserved": reserved}
    )


def peak_process_memory(workload: Callable[[], object]) -> Measurement:
    """Peak resident memory of this process while ``workload`` ran, sampled every 2 ms by a thread.

    It includes the interpreter, the libraries and the weights (what was resident before is in the conditions), and
    memory that the allocator kept from earlier work; a peak shorter than the sampling interval can be missed.
    """
    process = psutil.Process()
    before = process.memory_info().rss
    peak = before
    finished = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not finished.wait(SAMPLING_INTERVAL):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True, name="peak-memory")
    watcher.start()
    try:
        workload()
        peak = max(peak, process.memory_info().rss)
    finally:
        finished.set()
        watcher.join()
    return Measurement(
        name="peak_memory_process",
        unit="B",
        samples=(float(peak),),
        conditions={"before": before, "method": f"resident set sampled every {SAMPLING_INTERVAL * 1000:g} ms"},
    )
