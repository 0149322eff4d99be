"""Clipped density and coverage against a transcription of the paper, and their promise: they count good samples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from nvgbench.metrics import neighbours
from nvgbench.metrics.clipped import clipped_coverage, expected_coverage
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.neighbours import NeighbourMetric
from nvgbench.metrics.uncertainty import Contributions, interval_of
from nvgbench.types import Features

K = 5


def clouds(n: int, m: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)).astype(np.float32) + 0.2, rng.standard_normal((m, d)).astype(np.float32)


def scores(x: np.ndarray, y: np.ndarray) -> tuple[Contributions, Contributions]:
    none = np.zeros((0, 0), dtype=np.float32)
    found = NeighbourMetric().compute(MetricInputs(generated=Features(x, none, ""), reference=Features(y, none, "")))
    return found["clipped-density"], found["clipped-coverage"]


def by_definition(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Sections 3 and 4 of the paper on whole matrices in float64; the expectation by simulated shares of good samples."""
    among, across = cdist(y, y), cdist(y, x)
    radius = np.sort(among, axis=1)[:, K]
    clipped = np.minimum(radius, np.median(radius))
    inside = (among <= clipped[:, None]) & ~np.eye(len(y), dtype=bool)
    real = np.minimum(inside.sum(axis=0) / K, 1).mean()
    density = np.minimum((across <= clipped[:, None]).sum(axis=0) / K, 1).mean() / real
    raw = np.minimum((across <= radius[:, None]).sum(axis=1) / K, 1).mean()
    good = np.arange(len(x) + 1)
    return min(density, 1), float(np.interp(raw, expected_coverage(good, len(y), K), good / len(x)))


@pytest.mark.parametrize(("n", "m", "d", "tile"), [(90, 121, 6, 17), (60, 30, 3, 1024), (40, 80, 20, 7), (12, 15, 2, 1)])
def test_are_their_definitions_for_every_tile(n: int, m: int, d: int, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "TILE", tile)
    x, y = clouds(n, m, d, seed=n)
    assert [score.value for score in scores(x, y)] == pytest.approx(by_definition(x, y), abs=1e-6)


def test_the_expected_coverage_is_what_simulated_sets_have() -> None:
    rng = np.random.default_rng(0)
    raw = []
    for _ in range(300):
        x, y = rng.standard_normal((40, 2)), rng.standard_normal((30, 2))
        radius = np.sort(cdist(y, y), axis=1)[:, K]
        raw.append(np.minimum((cdist(y, x) <= radius[:, None]).sum(axis=1) / K, 1).mean())
    expected = expected_coverage(np.array([0, 40]), 30, K)
    assert expected[0] == pytest.approx(0, abs=1e-12)
    assert np.mean(raw) == pytest.approx(expected[1], abs=4 * np.std(raw) / np.sqrt(300))


@pytest.mark.parametrize("bad", [0.0, 0.3, 0.7, 1.0])
def test_fall_linearly_with_the_share_of_bad_samples(bad: float) -> None:
    """The promise of the paper, where plain density stays near 1 if the good samples crowd."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(6):
        x, y = rng.standard_normal((500, 4)), rng.standard_normal((500, 4))
        x[: round(bad * 500)] += 50
        found.append([score.value for score in scores(x.astype(np.float32), y.astype(np.float32))])
    # Clipping at 1 takes half of what chance adds to a share of 1.
    assert np.mean(found, axis=0) == pytest.approx(1 - bad, abs=0.05)


def test_outliers_of_the_reference_hide_no_bad_samples() -> None:
    rng = np.random.default_rng(2)
    y = np.concatenate([rng.standard_normal((300, 3)), 30 * rng.standard_normal((6, 3))]).astype(np.float32)
    x = np.concatenate([rng.standard_normal((150, 3)), 15 * rng.standard_normal((150, 3))]).astype(np.float32)
    density, coverage = scores(x, y)
    assert neighbours.neighbour_scores(x, y).density > 0.7  # half of the samples are bad
    assert (density.value, coverage.value) == pytest.approx((0.5, 0.5), abs=0.1)


def test_a_crowd_covers_little() -> None:
    rng = np.random.default_rng(2)
    x, y = 0.05 * rng.standard_normal((300, 3)), rng.standard_normal((300, 3))
    assert scores(x.astype(np.float32), y.astype(np.float32))[1].value < 0.1


def test_extremes() -> None:
    x, y = clouds(60, 60, 5, seed=3)
    assert [score.value for score in scores(y, y)] == pytest.approx([1, 1], abs=0.15)
    for score in scores(x + 100, y):
        interval = interval_of(score)
        assert score.value == 0
        assert interval is not None
        # No good sample among 60: up to Wilson's limit of them, each counting up to 1 over the reference's own density.
        limit = 3.8415 / (60 + 3.8415)
        assert interval.low == 0
        assert limit * 0.999 < interval.high < 2 * limit


def test_leaving_an_image_out_of_the_balls() -> None:
    """Balls with at most k samples lose 1 / k; fuller ones nothing."""
    hits_Mh = np.array([[0, -1, -1, -1, -1, -1], [0, 1, 2, 3, 4, -1], [0, 1, 2, 3, 4, 5]] + [[-1] * 6] * 7)
    expected, good = expected_coverage(np.arange(13), 10, K), np.arange(13) / 6
    raw = (1 + 5 + 5) / 50
    found = clipped_coverage(hits_Mh, 6, K)
    assert found.value == pytest.approx(np.interp(raw, expected, good))
    lost = np.array([2, 1, 1, 1, 1, 0]) / 50
    without_N = np.interp(raw - lost, expected, good)
    assert found.parts == pytest.approx(np.sqrt(5 / 6) * (without_N.mean() - without_N))


@settings(max_examples=20, deadline=None)
@given(st.integers(6, 40), st.integers(6, 40), st.integers(1, 10), st.integers(0, 2**20))
def test_order_and_range(n: int, m: int, d: int, seed: int) -> None:
    x, y = clouds(n, m, d, seed)
    rng = np.random.default_rng(seed)
    for one, other in zip(scores(x, y), scores(rng.permutation(x), rng.permutation(y)), strict=True):
        assert 0 <= one.value <= 1
        # Rounding may put a point on a border on the other side.
        assert other.value == pytest.approx(one.value, abs=1.01 / min(n, m))
