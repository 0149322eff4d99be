"""Peak memory and time of scoring many features: ``python benchmarks/scale_memory.py [N] [D] [SCORE...]``.

Random features of both sets are written to files and mapped into memory, as a feature cache would give them. Prints one line a
score: seconds and the largest resident set of this process so far. Scores: frechet, extrapolation, inception, kernel,
neighbours.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SCORES = ("frechet", "inception", "kernel", "neighbours")


def features(folder: Path, name: str, n: int, d: int, shift: float) -> np.ndarray:
    """Float32 features on disk, correlated as features are, so that neighbours exist."""
    path = folder / f"{name}.npy"
    matrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n, d))
    rng, scale = np.random.default_rng(len(name)), np.exp(-np.linspace(0, 5, d)).astype(np.float32)
    for low in range(0, n, 1000):
        rows = matrix[low : low + 1000]
        rows[:] = (rng.standard_normal(rows.shape, dtype=np.float32) + shift) * scale
    matrix.flush()
    return np.load(path, mmap_mode="r")


def peak_bytes() -> int:
    """The largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure(n: int, d: int, scores: tuple[str, ...] = SCORES) -> dict[str, tuple[float, int]]:
    """Seconds and peak bytes after each score."""
    from nvgbench.metrics.frechet import distance_to_factor, gaussian_of
    from nvgbench.metrics.frechet_extrapolated import extrapolated_frechet
    from nvgbench.metrics.inception_score import inception_score
    from nvgbench.metrics.kernel import kernel_distance, kernel_stderr
    from nvgbench.metrics.neighbours import neighbour_scores
    from nvgbench.metrics.uncertainty import frechet_interval

    found: dict[str, tuple[float, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        x, y = features(Path(folder), "samples", n, d, 0.05), features(Path(folder), "reference", n, d, 0.0)

        def frechet() -> None:
            reference = gaussian_of(y)
            value = distance_to_factor(x, *reference)
            frechet_interval(value, x, *reference)

        work: dict[str, Callable[[], object]] = {
            "frechet": frechet,
            "extrapolation": lambda: extrapolated_frechet(x, *gaussian_of(y)),
            "inception": lambda: inception_score(x[:, : min(1008, d)]),
            "kernel": lambda: (kernel_distance(x, y), kernel_stderr(x, y)),
            "neighbours": lambda: neighbour_scores(x, y),
        }
        for name in scores:
            start = time.perf_counter()
            work[name]()
            found[name] = time.perf_counter() - start, peak_bytes()
            print(f"{name}: {found[name][0]:.0f} s, peak {found[name][1] / 1e9:.2f} GB", flush=True)
    return found


if __name__ == "__main__":
    given = sys.argv[1:]
    measure(int(given[0]) if given else 50_000, int(given[1]) if len(given) > 1 else 2048, tuple(given[2:]) or SCORES)
