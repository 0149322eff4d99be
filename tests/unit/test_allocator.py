"""What the allocator keeps."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import numpy as np
from nvgbench.allocator import keep_freed_memory

if len(sys.argv) > 1:
    assert keep_freed_memory()

def tensors():
    kept = [np.ones(4 * 2**20, dtype=np.uint8) for _ in range(8)]

for _ in range(3):
    tensors()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    tensors()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_freed_memory_is_used_again() -> None:
    free = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    kept, returned = (
        int(subprocess.run([sys.executable, "-c", _FAULTS, *more], env=free, capture_output=True, check=True, text=True).stdout)
        for more in (["keep"], [])
    )
    # Ten times 32 MiB that are new to the process are 80,000 pages of 4 KiB, or 160 of 2 MiB.
    assert kept < 50 < returned


def test_an_allocator_that_the_user_configured_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from nvgbench.allocator import keep_freed_memory

    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert not keep_freed_memory()
