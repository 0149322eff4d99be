"""The Inception Score against torch-fidelity, closed forms, and the trap of files sorted by class."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvgbench.errors import InputError
from nvgbench.metrics.inception_score import inception_score


def test_equals_torch_fidelity_in_the_order_given() -> None:
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = 3 * np.random.default_rng(0).standard_normal((503, 20))
    theirs = isc_features_to_metric(torch.from_numpy(logits), splits=10, shuffle=False)
    ours = inception_score(logits, splits=10, shuffle_seed=None)
    assert ours.mean == pytest.approx(theirs["inception_score_mean"], rel=1e-12)
    assert ours.std == pytest.approx(theirs["inception_score_std"], rel=1e-10)
    assert ours.splits == 10


def test_certain_and_balanced_gives_the_number_of_classes() -> None:
    logits = 1000 * np.eye(10)[np.arange(500) % 10]
    assert inception_score(logits).mean == pytest.approx(10, rel=1e-12)
    assert inception_score(np.zeros((50, 10))).mean == pytest.approx(1, rel=1e-12)


def test_shuffle_saves_files_sorted_by_class() -> None:
    logits = 20 * np.eye(10)[np.sort(np.arange(1000) % 10)]
    assert inception_score(logits, splits=10, shuffle_seed=None).mean == pytest.approx(1, abs=0.01)
    assert inception_score(logits, splits=10, shuffle_seed=0).mean > 9


def test_last_part_is_shorter() -> None:
    assert inception_score(np.zeros((12, 3)), split_size=5).splits == 3


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.integers(2, 12), st.integers(0, 2**20))
def test_one_split_ignores_order_and_stays_in_range(n: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = 5 * rng.standard_normal((n, k))
    score = inception_score(logits, shuffle_seed=None).mean
    assert score == pytest.approx(inception_score(logits[rng.permutation(n)], shuffle_seed=seed).mean, rel=1e-10)
    assert 1 - 1e-9 <= score <= min(n, k) + 1e-9


def test_refuses_bad_input() -> None:
    with pytest.raises(InputError, match="splits of 3 images"):
        inception_score(np.zeros((3, 4)), splits=10)
    with pytest.raises(InputError, match="NaN"):
        inception_score(np.full((3, 4), np.nan))
    with pytest.raises(InputError, match="split_size"):
        inception_score(np.zeros((3, 4)), split_size=0)
