"""Streaming moments: any cut into batches, any order of merges, the same result."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvgbench.errors import InputError
from nvgbench.metrics.moments import Moments


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 50), st.integers(1, 8), st.lists(st.integers(0, 50), max_size=5), st.integers(0, 2**20))
def test_batches_and_merges_equal_the_whole(n: int, d: int, cuts: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) + 100  # an offset that sums of squares would cancel against
    bounds = [0, *sorted(min(cut, n) for cut in cuts), n]
    streamed, merged = Moments(d), Moments(d)
    for low, high in itertools.pairwise(bounds):
        streamed.update(x[low:high])
        part = Moments(d)
        part.update(x[low:high])
        part.merge(merged)
        merged = part
    for moments in (streamed, merged):
        assert moments.count == n
        assert np.allclose(moments.mean, x.mean(axis=0), rtol=1e-14)
        assert np.allclose(moments.covariance, np.cov(x, rowvar=False, ddof=1).reshape(d, d), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: Moments(3).update(np.zeros((2, 4))), "expected 3"),
        (lambda: Moments(3).update(np.zeros(3)), "matrix"),
        (lambda: Moments(1).update([[np.nan]]), "NaN"),
        (lambda: Moments(3).merge(Moments(4)), "cannot merge"),
        (lambda: Moments.of([[1.0, 2.0]]).covariance, "at least 2"),
        (lambda: Moments(0), "at least 1"),
    ],
)
def test_refuses_bad_input(act, message: str) -> None:
    with pytest.raises(InputError, match=message):
        act()
