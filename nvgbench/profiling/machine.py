"""The device a measurement ran on, and waiting for it."""

from __future__ import annotations

from typing import Any

import torch


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished what was asked of it; without this, times are those of the launches alone."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe_device(device: torch.device) -> dict[str, Any]:
    """Name and settings of the device that speed and memory depend on (memory in bytes)."""
    found: dict[str, Any] = {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "matmul_precision": torch.get_float32_matmul_precision(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "gpu": properties.name,
            "gpu_memory": properties.total_memory,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return found
