"""Precision, recall, density and coverage against torch-fidelity and a transcription of their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from nvgbench.errors import InputError
from nvgbench.metrics import neighbours
from nvgbench.metrics.neighbours import nearest_distances, neighbour_scores


def clouds(n: int, m: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)).astype(np.float32) + 0.2, rng.standard_normal((m, d)).astype(np.float32)


def by_definition(x: np.ndarray, y: np.ndarray, k_manifold: int, k_density: int) -> tuple[float, float, float, float]:
    """The formulas of both papers on whole matrices in float64."""
    cross = cdist(y, x)

    def radius(points: np.ndarray, k: int) -> np.ndarray:
        return np.sort(cdist(points, points), axis=1)[:, k]

    precision = (cross <= radius(y, k_manifold)[:, None]).any(axis=0).mean()
    recall = (cross <= radius(x, k_manifold)).any(axis=1).mean()
    inside = cross < radius(y, k_density)[:, None]
    return precision, recall, inside.sum() / (k_density * len(x)), inside.any(axis=1).mean()


@pytest.mark.parametrize(("n", "m", "d"), [(300, 250, 8), (500, 500, 64), (200, 400, 256)])
def test_equals_torch_fidelity_exactly(n: int, m: int, d: int) -> None:
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    x, y = clouds(n, m, d, seed=n)
    theirs = calculate_precision_recall_full(torch.from_numpy(x), torch.from_numpy(y), neighborhood=3)
    ours = neighbour_scores(x, y)
    # Their mean of shares is float32.
    assert (ours.precision, ours.recall) == pytest.approx(theirs, abs=1e-7)
    assert 0 < ours.precision < 1


@pytest.mark.parametrize("tile", [1, 17, 1024])
def test_equals_the_definitions_for_every_tile(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "TILE", tile)
    x, y = clouds(90, 120, 6, seed=1)
    ours = neighbour_scores(x, y, manifold_k=3, density_k=5)
    assert (ours.precision, ours.recall, ours.density, ours.coverage) == pytest.approx(by_definition(x, y, 3, 5), abs=1e-12)
    assert ours.inside_N.mean() == ours.precision
    assert ours.density_N.mean() == pytest.approx(ours.density)


@pytest.mark.parametrize("tile", [1, 7, 1024])
def test_hits_name_the_nearest_images_in_reach(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "TILE", tile)
    x, y = clouds(40, 50, 4, seed=2)
    ours = neighbour_scores(x, y)
    radius = np.sort(cdist(y, y), axis=1)[:, 5]
    for hits, row, limit in zip(ours.coverage_hits_Mh, cdist(y, x), radius, strict=True):
        inside = np.argsort(row)[: (row < limit).sum()][: neighbours.KEPT_HITS]
        assert hits.tolist() == [*inside, *[-1] * (neighbours.KEPT_HITS - len(inside))]


@settings(max_examples=20, deadline=None)
@given(st.integers(6, 40), st.integers(6, 40), st.integers(1, 10), st.integers(0, 2**20))
def test_order_and_offset_do_not_matter(n: int, m: int, d: int, seed: int) -> None:
    x, y = clouds(n, m, d, seed)
    rng = np.random.default_rng(seed)
    a = neighbour_scores(x, y)
    b = neighbour_scores(x[rng.permutation(n)] + 50, y[rng.permutation(m)] + 50)
    # The offset costs digits before it is taken off again; a point on a border may change sides.
    for name in ("precision", "recall", "density", "coverage"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), abs=1.01 / min(n, m))


def test_extremes() -> None:
    x, _ = clouds(60, 60, 5, seed=3)
    same = neighbour_scores(x, x)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    far = neighbour_scores(x + 100, x)
    assert (far.precision, far.recall, far.density, far.coverage) == (0, 0, 0, 0)


def test_nearest_distances() -> None:
    x, y = clouds(30, 40, 7, seed=4)
    assert nearest_distances(x, y) == pytest.approx(cdist(x, y).min(axis=1), rel=1e-5)


def test_refuses_too_few_images() -> None:
    x, y = clouds(5, 40, 3, seed=5)
    with pytest.raises(InputError, match=r"5 generated images are too few for 5 nearest neighbours; use at least 6"):
        neighbour_scores(x, y)
    with pytest.raises(InputError, match="reference images are too few"):
        neighbour_scores(y, x)
    with pytest.raises(InputError, match="at least 1"):
        neighbour_scores(y, y, manifold_k=0)
