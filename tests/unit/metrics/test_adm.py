"""ADM's arithmetic against a plain numpy transcription of its rules: float16 distances, ties, blocks, float32 means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nvgbench.errors import InputError
from nvgbench.extractors.spatial import POOL_FEATURES, SPATIAL_FEATURES, SpatialTap, split_features
from nvgbench.metrics import adm
from nvgbench.metrics.adm import adm_frechet, adm_gaussian, adm_precision_recall, half_distances
from nvgbench.metrics.frechet import frechet_distance
from nvgbench.metrics.neighbours import neighbour_scores


def distances_by_rule(u: NDArray, v: NDArray) -> NDArray:
    """|u|² - 2 u·v + |v|², everything in float16; in float32 if anything is not finite. numpy adds halves up in float32."""
    found = {}
    with np.errstate(over="ignore", invalid="ignore"):
        for dtype in (np.float16, np.float32):
            a, b = u.astype(dtype), v.astype(dtype)
            norms_u, norms_v = np.square(a).sum(axis=1), np.square(b).sum(axis=1)
            found[dtype] = np.maximum(norms_u[:, None] - dtype(2) * (a @ b.T) + norms_v, dtype(0))
    half = found[np.float16]
    return half.astype(np.float32) if np.isfinite(half).all() else found[np.float32]


def precision_recall_by_rule(x: NDArray, y: NDArray, block: int, k: int = 3) -> tuple[float, float]:
    def blocks(n: int) -> list[slice]:
        return [slice(low, low + block) for low in range(0, n, block)]

    def radii(points: NDArray) -> NDArray:
        rows = [
            np.concatenate([distances_by_rule(points[r], points[c]) for c in blocks(len(points))], axis=1)
            for r in blocks(len(points))
        ]
        return np.partition(np.concatenate(rows), k, axis=1)[:, k]  # itself is neighbour 0

    radius_x, radius_y = radii(x), radii(y)
    in_reference, in_samples = np.zeros(len(x), dtype=bool), np.zeros(len(y), dtype=bool)
    for r in blocks(len(y)):
        for c in blocks(len(x)):
            distance = distances_by_rule(y[r], x[c])
            in_reference[c] |= (distance <= radius_y[r][:, None]).any(axis=0)
            in_samples[r] |= (distance <= radius_x[c]).any(axis=1)
    return in_reference.mean(), in_samples.mean()


def lattice(n: int, d: int, seed: int, scale: float = 0.125) -> NDArray[np.float32]:
    """Multiples of a power of two: products add up exactly in any order, and distances tie over and over."""
    return (scale * np.random.default_rng(seed).integers(-4, 5, (n, d))).astype(np.float32)


@pytest.mark.parametrize("block", [7, 64, 10_000])
@pytest.mark.parametrize(("n", "m", "d"), [(150, 130, 6), (90, 200, 40)])
def test_equals_the_transcription_exactly_where_distances_tie(
    n: int, m: int, d: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adm, "BLOCK", block)
    x, y = lattice(n, d, 1), lattice(m, d, 2)
    found = adm_precision_recall(x, y)
    assert (found.precision, found.recall) == precision_recall_by_rule(x, y, block)
    distances = distances_by_rule(y, x)
    assert len(np.unique(distances)) < distances.size / 20  # ties everywhere


def test_equals_the_transcription_on_ordinary_features() -> None:
    rng = np.random.default_rng(0)
    y = rng.gamma(1.0, 0.4, (250, 512)).astype(np.float32)
    x = rng.gamma(1.05, 0.4, (300, 512)).astype(np.float32)
    found, expected = adm_precision_recall(x, y), precision_recall_by_rule(x, y, 10_000)
    # Sums of products in another order may round to the neighbouring half and carry a point over a border.
    assert (found.precision, found.recall) == pytest.approx(expected, abs=2 / 250)
    assert 0 < found.precision < 1
    exact = neighbour_scores(x, y)
    assert (found.precision, found.recall) != (exact.precision, exact.recall)  # halves do move it
    assert (found.precision, found.recall) == pytest.approx((exact.precision, exact.recall), abs=0.05)


def test_float32_only_for_the_block_that_overflows(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = lattice(40, 4, 3), lattice(40, 4, 4)
    x[33] = 200.0  # its squared norm, 160,000, is no finite half
    for block in (16, 10_000):
        monkeypatch.setattr(adm, "BLOCK", block)
        found = adm_precision_recall(x, y)
        assert (found.precision, found.recall) == precision_recall_by_rule(x, y, block)
    assert half_distances(torch.from_numpy(x[:8]), torch.from_numpy(y)).dtype == torch.float16
    assert half_distances(torch.from_numpy(x[32:]), torch.from_numpy(y)).dtype == torch.float32


def test_copies_are_inside() -> None:
    x = lattice(30, 5, 5)
    found = adm_precision_recall(x, x)
    assert (found.precision, found.recall) == (1.0, 1.0)


def test_means_are_float32_and_covariances_are_not() -> None:
    x = np.random.default_rng(0).gamma(1.0, 0.4, (3001, 5)).astype(np.float32)
    mean, factor = adm_gaussian(x)
    assert np.array_equal(mean, np.mean(x, axis=0).astype(np.float64))
    assert not np.array_equal(mean, x.astype(np.float64).mean(axis=0))
    np.testing.assert_allclose(factor @ factor.T, np.cov(x, rowvar=False), rtol=1e-9)
    y = np.random.default_rng(1).gamma(1.1, 0.4, (2001, 5)).astype(np.float32)
    expected = frechet_distance(np.mean(y, axis=0), np.cov(y, rowvar=False), mean, np.cov(x, rowvar=False))
    assert adm_frechet(y, mean, factor) == pytest.approx(expected, rel=1e-9)


def test_refuses_too_few() -> None:
    with pytest.raises(InputError, match="use at least 4"):
        adm_precision_recall(lattice(3, 2, 0), lattice(9, 2, 1))


def test_spatial_features_are_seven_channels_with_the_channel_fastest() -> None:
    network = torch.nn.Module()
    network.Mixed_6d = torch.nn.Module()
    network.Mixed_6d.branch1x1 = torch.nn.Identity()
    tap = SpatialTap(network)
    activations = torch.arange(2 * 192 * 17 * 17, dtype=torch.float32).reshape(2, 192, 17, 17)
    network.Mixed_6d.branch1x1(activations)
    taken = tap.take()
    expected = np.transpose(activations.numpy(), (0, 2, 3, 1))[..., :7].reshape(2, -1)
    assert np.array_equal(taken.numpy(), expected)
    assert taken.shape[1] == SPATIAL_FEATURES == 2023
    both = np.concatenate([np.zeros((2, POOL_FEATURES), np.float32), taken.numpy()], axis=1)
    assert np.array_equal(split_features(both)[1], expected)
