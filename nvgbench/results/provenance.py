"""Where a number comes from: code, libraries, machine. No torch import: versions are read from package metadata."""

from __future__ import annotations

import datetime
import functools
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from nvgbench import __version__
from nvgbench.results.paths import without_machine_paths

NOT_AVAILABLE = "not available"
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "torch-fidelity", "clean-fid", "lpips", "scikit-image", "safetensors")
_SOURCE_PATHS = ("nvgbench", "baselines", "pyproject.toml")


def collect(config_hash: str | None = None, *, gpu: str | None = None, **extra: Any) -> dict[str, Any]:
    """Where this process's numbers come from.

    Args:
        config_hash: SHA-256 of the resolved configuration, if any.
        gpu: name of the GPU in use; read through NVML if not given.
        extra: what the command adds: seeds, dataset, extractor, settings …; absolute paths in it are shortened as in
            ``command`` (`nvgbench.results.paths`).

    Returns:
        ``time`` (ISO, UTC), ``nvgbench``, ``commit`` and ``dirty`` (None if the source is not a git checkout), ``command``,
        ``python``, ``libraries``, ``machine``, ``config_hash`` if given, and ``extra``.
    """
    commit, dirty = source_state()
    found: dict[str, Any] = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "nvgbench": __version__,
        "commit": commit,
        "dirty": dirty,
        "command": command_line(sys.argv),
        "python": platform.python_version(),
        "libraries": dict(library_versions()),
        "machine": machine(gpu),
    }
    if config_hash is not None:
        found["config_hash"] = config_hash
    return found | without_machine_paths(extra)


def command_line(arguments: Sequence[str]) -> str:
    """``sys.argv`` quoted for a shell, with absolute paths shortened."""
    if not arguments:
        return ""
    name = Path(arguments[0]).name
    # With `python -m nvgbench`, argv[0] is the package's __main__.py.
    return shlex.join(["nvgbench" if name == "__main__.py" else name, *without_machine_paths(list(arguments[1:]))])


def machine(gpu: str | None = None) -> dict[str, Any]:
    """Operating system, CPU, cores, memory (bytes) and GPU name ("not available" if there is none)."""
    return {
        "platform": platform.platform(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "memory": psutil.virtual_memory().total,
        "gpu": gpu or gpu_name(),
    }


@functools.cache
def source_state() -> tuple[str | None, bool | None]:
    """``(commit, dirty)`` of the checkout this package was imported from; ``(None, None)`` if it is not a checkout.

    Cached, as the state that counts is that at the time of import.
    """
    root = Path(__file__).resolve().parents[2]
    top = _git(root, "rev-parse", "--show-toplevel")
    # A package installed in an environment inside another repository must not report that repository's commit.
    if top is None or Path(top).resolve() != root:
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "--", *_SOURCE_PATHS)
    return commit, None if changes is None else bool(changes)


@functools.cache
def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that affect numbers."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = NOT_AVAILABLE
    return versions


@functools.cache
def cpu_model() -> str:
    """The processor's name, as the system reports it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # Not Linux.
    return platform.processor() or platform.machine() or NOT_AVAILABLE


@functools.cache
def gpu_name() -> str:
    """Names of the GPUs that NVML sees, joined by commas, or "not available"."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return NOT_AVAILABLE
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return ", ".join(_text(pynvml.nvmlDeviceGetName(handle)) for handle in handles) or NOT_AVAILABLE
    except pynvml.NVMLError:
        return NOT_AVAILABLE
    finally:
        pynvml.nvmlShutdown()


def _text(name: str | bytes) -> str:
    return name.decode("utf-8", errors="replace") if isinstance(name, bytes) else name


def _git(root: Path, *arguments: str) -> str | None:
    """git's output, or None if there is no git, no repository, or no answer in time."""
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
