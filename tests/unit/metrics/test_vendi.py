"""The Vendi score: sets with a known number of different images, its definition, and images left out one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvgbench.errors import InputError
from nvgbench.metrics import vendi
from nvgbench.metrics.arrays import row_parts
from nvgbench.metrics.uncertainty import interval_of
from nvgbench.metrics.vendi import vendi_score


def by_definition(x: np.ndarray) -> float:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(x))
    values = values[values > 1e-14]
    return float(np.exp(-(values * np.log(values)).sum()))


def points(n: int, d: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) + 0.3


@pytest.mark.parametrize(("n", "d"), [(50, 8), (8, 50), (20, 20), (1, 4), (30, 1)])
@pytest.mark.parametrize("rows", [7, 4096])
def test_is_its_definition_for_every_block(n: int, d: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vendi, "row_parts", lambda matrix: row_parts(matrix, rows))
    x = points(n, d, seed=n)
    assert vendi_score(x).value == pytest.approx(by_definition(x), rel=1e-9)


def test_counts_different_images() -> None:
    assert vendi_score(np.ones((1, 3))).value == 1
    assert vendi_score(5 * np.ones((9, 3))).value == pytest.approx(1)
    assert vendi_score(np.eye(6)).value == pytest.approx(6)
    assert vendi_score(np.repeat(np.eye(6), 4, axis=0)).value == pytest.approx(6)  # copies add nothing
    # Shares of 1/2, 1/4 and 1/4: exp of an entropy of 1.5 bits.
    assert vendi_score(np.repeat(np.eye(3), [4, 2, 2], axis=0)).value == pytest.approx(2**1.5)


def test_features_of_length_zero_are_one_image_more() -> None:
    x = np.concatenate([np.eye(3), np.zeros((1, 3))])
    assert vendi_score(x).value == pytest.approx(4)
    assert vendi_score(np.zeros((5, 3))).value == pytest.approx(1)


@pytest.mark.parametrize(("n", "d"), [(30, 5), (10, 30), (10, 10), (9, 10), (11, 10), (12, 1)])
def test_leaving_images_out_is_exact(n: int, d: int) -> None:
    x = points(n, d, seed=n)
    without_N = np.array([vendi_score(np.delete(x, i, axis=0)).value for i in range(n)])
    assert vendi_score(x).parts == pytest.approx(np.sqrt((n - 1) / n) * (without_N.mean() - without_N), abs=1e-9)


def test_leaving_images_out_is_exact_for_equal_images() -> None:
    x = np.repeat(points(4, 6, seed=1), [3, 1, 2, 2], axis=0)
    without_N = np.array([vendi_score(np.delete(x, i, axis=0)).value for i in range(len(x))])
    assert vendi_score(x).parts == pytest.approx(np.sqrt(7 / 8) * (without_N.mean() - without_N), abs=1e-9)


def test_equal_images_say_nothing_about_others() -> None:
    assert interval_of(vendi_score(np.ones((9, 3)))) is None
    assert interval_of(vendi_score(np.ones((1, 3)))) is None


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 25), st.integers(1, 8), st.integers(0, 2**20), st.floats(1e-3, 1e3))
def test_order_and_scale_do_not_matter(n: int, d: int, seed: int, scale: float) -> None:
    x = points(n, d, seed)
    order = np.random.default_rng(seed).permutation(n)
    one, other = vendi_score(x), vendi_score(scale * x[order])
    assert other.value == pytest.approx(one.value, rel=1e-9)
    assert other.parts == pytest.approx(one.parts[order], abs=1e-9)
    assert 1 <= one.value <= min(n, d) + 1e-9


def test_refuses_bad_input() -> None:
    with pytest.raises(InputError, match="NaN"):
        vendi_score(np.full((4, 3), np.nan))
