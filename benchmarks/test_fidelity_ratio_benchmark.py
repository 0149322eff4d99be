"""Our scores and torch-fidelity's from the same features in one run; ``extra_info["ratio"]`` is its time over ours.

Timings on a shared machine move by a third, and both sides with them; the ratio is what to look at. Nothing is asserted of it.
Of precision and recall ``extra_info["products"]`` is the share of our time that the bare float32 products take.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from nvgbench.metrics.frechet import distance_to_factor, frechet_from_features, gaussian_of
from nvgbench.metrics.neighbours import TILE, neighbour_scores


def pair(n: int, d: int = 2048) -> tuple[np.ndarray, np.ndarray]:
    """Features whose spread falls over their directions, as Inception's does."""
    rng, scale = np.random.default_rng(n), np.exp(-np.linspace(0, 5, d)).astype(np.float32)
    x, y = (np.abs(rng.standard_normal((n, d), dtype=np.float32)) * scale for _ in range(2))
    return 1.05 * x, y


def bare_products(x: torch.Tensor, y: torch.Tensor) -> None:
    """Every product of tiles that `neighbour_scores` takes, and nothing else: of a set with itself those above the diagonal."""
    for a, b in ((x, x), (y, y), (y, x)):
        for number, rows in enumerate(a.split(TILE)):
            for columns in b.split(TILE)[number if a is b else 0 :]:
                torch.mm(rows, columns.T)


def seconds(work: Callable[[], object], rounds: int = 2) -> float:
    """The quickest of a few calls."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


@pytest.mark.parametrize("n", [1000, 2000, 10_000])
@pytest.mark.parametrize("reference", ["features", "cached"])
def test_frechet_against_torch_fidelity(benchmark, n: int, reference: str) -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    x, y = pair(n)
    first, second = torch.from_numpy(x), torch.from_numpy(y)
    known, theirs_known = gaussian_of(y), fid_features_to_statistics(second)

    def ours() -> float:
        return distance_to_factor(x, *known) if reference == "cached" else frechet_from_features(x, y)

    def theirs() -> float:
        statistics = theirs_known if reference == "cached" else fid_features_to_statistics(second)
        return fid_statistics_to_metric(fid_features_to_statistics(first), statistics, False)["frechet_inception_distance"]

    # Their eigenvalues of a product of covariances keep about six digits.
    assert ours() == pytest.approx(theirs(), rel=1e-5)
    benchmark.pedantic(ours, rounds=2)
    benchmark.extra_info["ratio"] = seconds(theirs, 1 if n > 5000 else 2) / benchmark.stats["min"]


@pytest.mark.parametrize("n", [2000, 5000, 10_000])
def test_precision_and_recall_against_torch_fidelity(benchmark, n: int) -> None:
    """Theirs is precision and recall alone; ours counts density and coverage too."""
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    x, y = pair(n)
    first, second = torch.from_numpy(x), torch.from_numpy(y)

    def theirs() -> tuple[float, float]:
        return calculate_precision_recall_full(first, second, neighborhood=3)

    found = benchmark.pedantic(neighbour_scores, args=(x, y), rounds=2)
    # A distance at the edge of a ball may round to either side.
    assert (found.precision, found.recall) == pytest.approx(theirs(), abs=2 / n)
    benchmark.extra_info["ratio"] = seconds(theirs, 1 if n > 5000 else 2) / benchmark.stats["min"]
    benchmark.extra_info["products"] = seconds(lambda: bare_products(first, second)) / benchmark.stats["min"]
