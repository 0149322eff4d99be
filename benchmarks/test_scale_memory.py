"""Scoring 50,000 against 50,000 features of 2,048 stays below 4 GB (takes half an hour and more on one core)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LIMIT = 4_000_000_000


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_peak_memory_of_scoring_50k_features() -> None:
    """In a process of its own, so that nothing else counts."""
    code = "import json, scale_memory; print(json.dumps(scale_memory.measure(50_000, 2048)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert max(peak for _, peak in found.values()) < LIMIT
