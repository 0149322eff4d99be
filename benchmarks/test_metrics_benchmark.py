"""How long the scores take at the sizes of an evaluation: 2,000 samples against 2,000 images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nvgbench.metrics.frechet import frechet_from_features, gaussian_of
from nvgbench.metrics.kernel import kernel_distance
from nvgbench.metrics.neighbours import neighbour_scores
from nvgbench.metrics.reconstruction import ssim
from nvgbench.metrics.uncertainty import frechet_interval


def features(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@pytest.mark.parametrize(("n", "d"), [(2000, 128), (500, 2048)])
def test_frechet(benchmark, n: int, d: int) -> None:
    x, y = features(n, d, 0), features(n, d, 1)
    assert benchmark(frechet_from_features, x, y) > 0


@pytest.mark.parametrize(("n", "d"), [(2000, 128), (500, 2048)])
def test_frechet_interval(benchmark, n: int, d: int) -> None:
    x, y = features(n, d, 0), features(n, d, 1)
    value, reference = frechet_from_features(x, y), gaussian_of(y)
    interval = benchmark.pedantic(frechet_interval, args=(value, x, *reference), rounds=1)
    assert interval.low < value < interval.high


@pytest.mark.parametrize("d", [128, 2048])
def test_neighbours(benchmark, d: int) -> None:
    x, y = features(2000, d, 0), features(2000, d, 1)
    assert 0 <= benchmark.pedantic(neighbour_scores, args=(x, y), rounds=2).precision <= 1


def test_kernel(benchmark) -> None:
    x, y = features(2000, 128, 0), features(2000, 128, 1)
    assert benchmark.pedantic(kernel_distance, args=(x, y), rounds=1).subsets == 100


def test_ssim(benchmark) -> None:
    images = torch.randint(0, 255, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert float(benchmark(ssim, images, images).mean()) == pytest.approx(1)
