"""Peak memory of a workload, bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import torch

from nvgbench.allocator import release_freed_memory
from nvgbench.profiling.machine import synchronize
from nvgbench.types import Measurement

SAMPLING_INTERVAL = 0.002
"""Seconds between two readings of the process's memory, if the kernel does not record its peak."""
_RESET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def peak_cuda_memory(workload: Callable[[], object], device: torch.device) -> Measurement:
    """Peak memory of tensors on the GPU while ``workload`` ran, model weights included.

    The memory reserved by the caching allocator is in the conditions. Not available without CUDA.
    """
    name = "peak_memory_cuda"
    if device.type != "cuda":
        return Measurement(name=name, unit="B", samples=(), note="not available: the model ran on the CPU")
    synchronize(device)
    # Empty the cache before resetting the peak; the other order would count the cache.
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    workload()
    synchronize(device)
    reserved = torch.cuda.max_memory_reserved(device)
    return Measurement(
        name=name, unit="B", samples=(float(torch.cuda.max_memory_allocated(device)),), conditions={"reserved": reserved}
    )


def peak_process_memory(workload: Callable[[], object]) -> Measurement:
    """Peak resident memory of this process while ``workload`` ran.

    It includes the interpreter, the libraries and the weights (the resident memory before is in the conditions). Memory that
    the allocator kept from earlier work is released first, where it can be. Linux records the peak itself; elsewhere a thread
    samples every 2 ms and can miss short peaks. The conditions say which method was used.
    """
    release_freed_memory()
    process = psutil.Process()
    method, watch = "the kernel's high-water mark", _high_water_mark
    if not _reset_high_water_mark():
        method, watch = f"resident set sampled every {SAMPLING_INTERVAL * 1000:g} ms", _sampled_peak
    before = process.memory_info().rss
    peak = watch(workload, process)
    return Measurement(
        name="peak_memory_process",
        unit="B",
        samples=(float(max(peak, before)),),
        conditions={"before": before, "method": method},
    )


def _reset_high_water_mark() -> bool:
    """Reset the kernel's high-water mark to the memory resident now; False if it cannot be reset."""
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def _high_water_mark(workload: Callable[[], object], process: psutil.Process) -> int:
    """Peak of the process since the mark was reset, bytes."""
    workload()
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _sampled_peak(workload: Callable[[], object], process: psutil.Process) -> int:
    """The largest reading of a thread while ``workload`` ran, bytes."""
    peak = 0
    finished = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not finished.wait(SAMPLING_INTERVAL):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True, name="peak-memory")
    watcher.start()
    try:
        workload()
        return max(peak, process.memory_info().rss)
    finally:
        finished.set()
        watcher.join()
