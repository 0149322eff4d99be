"""Recall's error: every subset's recall is what the definition gives, and copies of a set do not trouble it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nvgbench.metrics import recall_error
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.neighbours import NeighbourMetric, neighbour_scores
from nvgbench.metrics.uncertainty import interval_of
from nvgbench.types import Features


def recalls_by_definition(x: np.ndarray, y: np.ndarray, k: int) -> np.ndarray:
    """Recall of each subset, from whole matrices of distances in float64."""
    rng = np.random.default_rng(recall_error._SEED)
    kept = max(round(len(x) * (1 - recall_error.LEFT_OUT)), k + 1)
    own, cross, found = cdist(x, x), cdist(y, x), []
    for _ in range(recall_error.SUBSETS):
        here = rng.permutation(len(x))[:kept]
        radius = np.sort(own[np.ix_(here, here)], axis=1)[:, k]
        found.append((cross[:, here] <= radius).any(axis=1).mean())
    return np.array(found)


@pytest.mark.parametrize(("n", "m", "d"), [(60, 80, 5), (150, 100, 40), (7, 30, 3)])
def test_subsets_have_the_recall_of_the_definition(n: int, m: int, d: int) -> None:
    rng = np.random.default_rng(n)
    x, y = (rng.standard_normal((count, d)).astype(np.float32) for count in (n, m))
    expected = recalls_by_definition(x, y, 3)
    kept = max(round(n * (1 - recall_error.LEFT_OUT)), 4)
    scale = np.sqrt(kept / (n - kept) / (recall_error.SUBSETS - 1))
    found = neighbour_scores(x, y).recall_contributions_R
    # A ball that reaches beyond its 12 nearest images, or an image that 12 others are nearer to reach, is left out.
    np.testing.assert_allclose(found, scale * (expected - expected.mean()), atol=scale * 1.01 / m)
    assert np.var(expected) > 0


@pytest.mark.parametrize(("k", "subsets"), [(3, 200), (1, 21), (70, 9)])
def test_bits_say_what_one_subset_after_another_says(k: int, subsets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall_error, "SUBSETS", subsets)
    rng = np.random.default_rng(4)
    n, depth, kept = 300, 4 * k, max(200, k + 1)
    x, y = ((scale * rng.standard_normal((count, 6))).astype(np.float32) for count, scale in ((n, 1), (80, 2)))
    own, cross = cdist(x, x, "sqeuclidean").astype(np.float32), cdist(y, x, "sqeuclidean").astype(np.float32)
    index = np.argsort(own, axis=1)[:, 1 : depth + 1]
    candidate = np.argsort(cross, axis=1)[:, :12]
    own, cross = np.take_along_axis(own, index, axis=1), np.take_along_axis(cross, candidate, axis=1)
    drawn, recalls = np.random.default_rng(recall_error._SEED), []
    for _ in range(subsets):
        here = np.zeros(n, dtype=bool)
        here[drawn.permutation(n)[:kept]] = True
        # the k-th neighbour that is in the subset, or the last that is known
        there = [row[here[numbers]][:k] for row, numbers in zip(own, index, strict=True)]
        radius = np.array([row[-1] if len(near) < k else near[-1] for near, row in zip(there, own, strict=True)])
        recalls.append((here[candidate] & (cross <= radius[candidate])).any(axis=1).mean())
    scale = kept / (n - kept) / (subsets - 1)
    expected = np.sqrt(scale) * (np.array(recalls) - np.mean(recalls))
    assert expected.any()
    np.testing.assert_allclose(recall_error.recall_contributions(own, index, cross, candidate, k), expected, atol=1e-12)


def test_too_few_images_to_leave_any_out_say_nothing() -> None:
    x = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32)
    found = neighbour_scores(x, x, manifold_k=5)
    assert not found.recall_contributions_R.any()
    assert found.recall == 1


def test_the_images_themselves_are_reached_by_every_subset_that_holds_them() -> None:
    x = np.random.default_rng(1).standard_normal((90, 60)).astype(np.float32)
    found = neighbour_scores(x, x)
    assert found.recall == 1
    expected = recalls_by_definition(x, x, 3)
    assert np.corrcoef(found.recall_contributions_R, expected)[0, 1] > 0.99


def test_a_recall_of_zero_is_not_certain_although_larger_balls_would_reach() -> None:
    """Balls of a third fewer images are larger; that they reach a few would make an interval of next to nothing."""
    x = np.random.default_rng(3).standard_normal((100, 2)).astype(np.float32)
    radius = np.sort(cdist(x, x), axis=1)[:, 3]
    # the nearest place on a line that no ball reaches
    edge = next(place for place in np.arange(0.0, 9.0, 0.01) if (cdist([[place, 0.0]], x)[0] > radius).all())
    y = np.array([[edge, 0.0]] * 300, dtype=np.float32)
    assert recalls_by_definition(x, y, 3).any()
    generated, reference = (Features(points, np.zeros((0, 0), dtype=np.float32)) for points in (x, y))
    found = NeighbourMetric().compute(MetricInputs(generated=generated, reference=reference))["recall"]
    assert found.value == 0
    interval = interval_of(found)
    assert interval is not None
    assert interval.method == "Wilson"
    assert interval.high == pytest.approx(0.01264, abs=1e-4)  # z² / (M + z²), z = 1.96, M = 300
