"""Peak memory of reading, linting and extracting does not grow with the number of images."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

CODE = """
import sys
from pathlib import Path

import numpy as np

from nvgbench.evaluation.lint.pixels import set_statistics
from nvgbench.data.image_set import open_images
from nvgbench.extractors.cache import FeatureCache
from nvgbench.sampling.job import write_npz


class Corners:
    name, fingerprint, provenance = "corners", "0" * 64, {}

    def __call__(self, images):
        corners = images[:, :, ::32, ::32].float().flatten(1)
        return corners, corners[:, :10]


def peak() -> int:
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))


rng = np.random.default_rng(0)
block = rng.integers(0, 256, (100, 64, 64, 3), dtype=np.uint8)
for count in (600, 4800):
    path = Path(sys.argv[1]) / f"{count}.npz"
    write_npz(path, (np.roll(block, number, axis=0) for number in range(count // 100)), count, 64, np.arange(count) % 10)
    images = open_images(path)
    set_statistics(images)
    FeatureCache(None).extract(images.chunks(), Corners())
    print(path.stat().st_size // 1024, peak())
"""


def test_a_file_eight_times_as_large_needs_no_more(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, str(tmp_path)], capture_output=True, text=True, check=True)
    (small, before), (large, after) = (map(int, line.split()) for line in done.stdout.splitlines())
    assert large > small + 45_000  # KiB
    assert after < before + 20_000  # less than half of what was added to the file: hashes, features and noise of the allocator
