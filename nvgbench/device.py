"""Choosing the device, and describing it in records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from nvgbench.errors import InputError


def resolve_device(name: str) -> torch.device:
    """The device for ``auto`` (CUDA if available, else the CPU), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        InputError: unknown name, or this machine has no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device: torch.device | None = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"`device={name!r}` is unknown; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"`device={name!r}`: this machine has {torch.cuda.device_count()} CUDA devices; use `device='cpu'`")
    return device


def resolve_precision(setting: Literal["auto", "fp32", "bf16"], device: torch.device) -> Literal["fp32", "bf16"]:
    """``auto`` is bf16 on CUDA devices with native support, float32 elsewhere."""
    if setting != "auto":
        return setting
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def resolve_compile(setting: Literal["auto"] | bool, device: torch.device) -> bool:
    """``auto`` compiles on CUDA only: on the CPU the compiler takes longer than most samples."""
    return device.type == "cuda" if setting == "auto" else setting


def resolved_settings(settings: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Sampling settings for a record: ``precision`` and ``compile``, if any, as they are on this device instead of ``auto``."""
    found = dict(settings)
    if "precision" in found:
        found["precision"] = resolve_precision(found["precision"], device)
    if "compile" in found:
        found["compile"] = resolve_compile(found["compile"], device)
    return found


def describe_device(device: torch.device) -> dict[str, Any]:
    """Name and settings of the device that affect speed, memory and the last digits of scores; memory in bytes."""
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
