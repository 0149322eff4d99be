"""Choosing the device, and describing it in records."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sys
import sysconfig
import warnings
from collections.abc import Mapping
from pathlib import Path
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
    """Whether blocks are compiled.

    ``auto`` compiles on CUDA only (on the CPU the compiler takes longer than most samples), and only where torch.compile can
    work; where it cannot, a warning says so once.

    Raises:
        InputError: True, and torch.compile cannot work on this machine.
    """
    if setting is False or (setting == "auto" and device.type != "cuda"):
        return False
    missing = missing_for_compilation(device.type)
    if missing is not None and setting != "auto":
        raise InputError(f"torch.compile needs {missing}; install it, or leave compilation out by `compile=False`")
    if missing is not None:
        _warn_uncompiled(missing)
    return missing is None


@functools.cache
def missing_for_compilation(device_type: str) -> str | None:
    """What torch.compile lacks on this machine, if anything: Triton for CUDA, a compiler, Python's headers."""
    variable, names = ("CC", ("gcc", "clang")) if device_type == "cuda" else ("CXX", ("g++", "clang++"))
    given = os.environ.get(variable)
    if device_type == "cuda" and importlib.util.find_spec("triton") is None:
        return "Triton, which is not installed"
    if not any(shutil.which(name) for name in ([given] if given else names)):
        named = f"{variable}={given} is not found" if given else f"neither {' nor '.join(names)} is found"
        return f"a {'C' if device_type == 'cuda' else 'C++'} compiler ({named})"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        return "the header files of Python (Python.h is not found)"
    return None


@functools.cache
def _warn_uncompiled(missing: str) -> None:
    warnings.warn(f"blocks are not compiled, as torch.compile needs {missing}; sampling and training are slower", stacklevel=3)


def compilation_seconds() -> float:
    """Seconds that torch.compile has taken in this process so far."""
    utils = sys.modules.get("torch._dynamo.utils")  # imported with the first compiled function
    return 0.0 if utils is None else utils.calculate_time_spent()["total_wall_time"]


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
