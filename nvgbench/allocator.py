"""glibc's memory allocator, told to keep what the process frees."""

from __future__ import annotations

import ctypes
import os
import platform

# Numbers of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20
_KEPT = 2**30


def keep_freed_memory() -> bool:
    """Keep up to 1 GiB of freed memory in the process, and take blocks of up to 32 MiB from it.

    By default glibc returns memory to the system soon after PyTorch frees a tensor of a few MB, and the next tensor pays for
    new pages: a fifth of a small model's training step on the CPU. Results do not change.

    Returns:
        Whether the allocator was told: not on other systems and C libraries, nor where the environment variables
        ``MALLOC_TRIM_THRESHOLD_`` or ``MALLOC_MMAP_THRESHOLD_`` already did.
    """
    if not _is_glibc() or {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD), mallopt(_M_TRIM_THRESHOLD, _KEPT)])


def release_freed_memory() -> None:
    """Return kept memory to the system, so that what is resident is in use."""
    if _is_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _is_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"
