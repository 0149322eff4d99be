"""Energy of a workload from the GPU's own counter, joules."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pynvml
import torch

from nvgbench.errors import InputError
from nvgbench.profiling.machine import synchronize
from nvgbench.types import Measurement

SHORTEST_WINDOW = 1.0
"""Seconds. The counter is updated every 20 to 100 ms; shorter windows would be off by several per cent."""


def energy_per_image(
    workload: Callable[[], object], images: int, device: torch.device, *, seconds: float = 3.0, windows: int = 3
) -> Measurement:
    """Joules per image: one sample per window of at least ``seconds`` in which ``workload`` is repeated.

    The counter covers the whole board, idle power and other work on the GPU included, but not the CPU. Without a counter, the
    measurement has no samples and a note that says why.

    Args:
        workload: generates ``images`` images per call; should be warmed up.
        images: images per call.
        device: where it runs.
        seconds: shortest length of a window.
        windows: number of windows.

    Raises:
        InputError: windows too short for the counter, or none.
    """
    if seconds < SHORTEST_WINDOW or windows < 1:
        raise InputError(
            f"energy windows: {windows} of {seconds} s; expected at least 1 of at least {SHORTEST_WINDOW} s, because the "
            "counter is updated only every 20 to 100 ms"
        )
    if device.type != "cuda":
        return _unavailable("the model ran on the CPU")
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return _unavailable(f"NVML does not answer ({error})")
    try:
        handle = _handle(device)
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        samples = tuple(_window(workload, handle, device, seconds) / images for _ in range(windows))
    except pynvml.NVMLError as error:
        return _unavailable(f"the energy counter of this GPU cannot be read ({error})")
    finally:
        pynvml.nvmlShutdown()
    if not all(sample > 0 for sample in samples):
        return _unavailable("the energy counter did not move")
    conditions = {"window_seconds": seconds, "covers": "whole GPU board, idle power included"}
    return Measurement(name="energy", unit="J/image", samples=samples, conditions=conditions)


def _window(workload: Callable[[], object], handle: Any, device: torch.device, seconds: float) -> float:
    """Joules per call, from as many calls as fill the window."""
    synchronize(device)
    joules_before = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000  # the counter is in millijoules
    began, calls = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        workload()
        synchronize(device)
        calls += 1
    return (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1000 - joules_before) / calls


def _handle(device: torch.device) -> Any:
    """NVML's handle of a torch device, by its UUID, as NVML ignores CUDA_VISIBLE_DEVICES."""
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
    return pynvml.nvmlDeviceGetHandleByUUID(name)


def _unavailable(reason: str) -> Measurement:
    return Measurement(name="energy", unit="J/image", samples=(), note=f"not available: {reason}")
