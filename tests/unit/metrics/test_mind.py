"""MIND against sorted projections, cases with a known distance, and images left out one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvgbench.errors import InputError
from nvgbench.metrics import mind as module
from nvgbench.metrics.mind import DIRECTIONS, mind, orthonormal_directions


@pytest.fixture(autouse=True)
def few_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DIRECTIONS", 60)


def clouds(n: int, m: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return 1.2 * rng.standard_normal((n, d)) + 0.3, rng.standard_normal((m, d))


def by_definition(x: np.ndarray, y: np.ndarray) -> float:
    """The paper's estimator; each image of the smaller set is repeated until both are equally many."""
    common = np.lcm(len(x), len(y))
    directions = orthonormal_directions(x.shape[1], 0)
    one, other = (np.sort(np.repeat(part @ directions, common // len(part), axis=0), axis=0) for part in (x, y))
    return 3 * x.shape[1] * float(((one - other) ** 2).mean())


@pytest.mark.parametrize(("n", "m", "d"), [(40, 40, 5), (30, 45, 7), (45, 30, 70), (7, 1, 3)])
@pytest.mark.parametrize("block", [7, 128])
def test_is_its_formula_for_every_block(n: int, m: int, d: int, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    x, y = clouds(n, m, d, seed=n)
    assert mind(x, y).value == pytest.approx(by_definition(x, y), rel=1e-10)


@pytest.mark.parametrize(("n", "m", "d"), [(12, 12, 4), (9, 20, 3), (20, 9, 80)])
def test_leaving_images_out_is_exact(n: int, m: int, d: int) -> None:
    x, y = clouds(n, m, d, seed=n)
    without_N = np.array([mind(np.delete(x, i, axis=0), y).value for i in range(n)])
    assert mind(x, y).parts == pytest.approx(np.sqrt((n - 1) / n) * (without_N.mean() - without_N), abs=1e-9)


def test_known_distances() -> None:
    _, y = clouds(1, 80, 6, seed=1)
    shift = np.array([1.0, -2, 0, 0.5, 0, 0])
    assert mind(y, y).value == pytest.approx(0, abs=1e-10)
    # Every projection moves by u·shift, and a basis keeps the length of the shift.
    assert mind(y + shift, y).value == pytest.approx(3 * shift @ shift, rel=1e-10)
    # Every sorted projection is scaled: (s - 1)² times its variance, which a basis sums to the trace of the covariance.
    wide = y.mean(axis=0) + 1.5 * (y - y.mean(axis=0))
    assert mind(wide, y).value == pytest.approx(3 * 0.5**2 * y.var(axis=0).sum(), rel=1e-10)


def test_gaussians_have_the_distance_of_their_moments() -> None:
    """3 |shift|² + 3 D (sigma - 1)² for isotropic Gaussians; the bias of 4,000 images is a few per cent of it."""
    rng = np.random.default_rng(2)
    x, y = 1.5 * rng.standard_normal((4000, 4)) + 0.5, rng.standard_normal((4000, 4))
    assert mind(x, y).value == pytest.approx(3 * 4 * 0.5**2 + 3 * 4 * 0.5**2, rel=0.08)


def test_sees_what_two_moments_do_not() -> None:
    rng = np.random.default_rng(3)
    y = rng.standard_normal((800, 3))
    real, coins = rng.standard_normal((800, 3)), rng.choice([-1.0, 1.0], size=(800, 3))  # mean 0, covariance 1
    assert mind(coins, y).value > 5 * mind(real, y).value


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 20), st.integers(1, 20), st.integers(1, 6), st.integers(0, 2**20))
def test_order_and_offset_do_not_matter(n: int, m: int, d: int, seed: int) -> None:
    x, y = clouds(n, m, d, seed)
    order = np.random.default_rng(seed).permutation(n)
    one, other = mind(x, y), mind(x[order] + 5, np.random.default_rng(seed).permutation(y) + 5)
    assert other.value == pytest.approx(one.value, rel=1e-9)
    assert other.parts == pytest.approx(one.parts[order], abs=1e-9)


def test_other_directions_move_it_less_than_other_images() -> None:
    x, y = clouds(200, 200, 12, seed=4)
    assert np.std([mind(x, y, seed=seed).value for seed in range(8)]) < 0.2 * mind(x, y).stderr


def test_directions_are_whole_bases() -> None:
    directions = orthonormal_directions(7, 0)
    assert directions.shape == (7, 63)
    assert directions @ directions.T == pytest.approx(9 * np.eye(7), abs=1e-12)
    assert DIRECTIONS == 1000


def test_refuses_bad_input() -> None:
    with pytest.raises(InputError, match="use one extractor"):
        mind(np.zeros((4, 3)), np.zeros((4, 2)))
    with pytest.raises(InputError, match="NaN"):
        mind(np.full((4, 3), np.nan), np.zeros((4, 3)))
