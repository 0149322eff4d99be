"""Agreement measures against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from nvgbench.errors import InputError
from nvgbench.metrics.stability import adjusted_rand_index, normalized_mutual_information

labels_strategy = hnp.arrays(np.int64, (4, 12), elements=st.integers(-3, 3))


@settings(max_examples=60, deadline=None)
@given(a=labels_strategy, b=labels_strategy)
def test_equals_scikit_learn(a: np.ndarray, b: np.ndarray) -> None:
    # 1e-9: both are float64; entropies of near zero cancel to about 1e-15 and are divided by another such number at worst.
    ari, nmi = adjusted_rand_index(a, b), normalized_mutual_information(a, b)
    np.testing.assert_allclose(ari, [adjusted_rand_score(x, y) for x, y in zip(a, b, strict=True)], atol=1e-9)
    np.testing.assert_allclose(nmi, [normalized_mutual_info_score(x, y) for x, y in zip(a, b, strict=True)], atol=1e-9)


def test_trivial_maps_agree_fully() -> None:
    one, each = np.zeros((2, 8), dtype=np.int64), np.arange(16).reshape(2, 8)
    for measure in (adjusted_rand_index, normalized_mutual_information):
        assert measure(one, one).tolist() == [1, 1]
        assert measure(each, each + 5).tolist() == [1, 1]
        assert measure(one, each).tolist() == [0, 0]


def test_names_of_labels_do_not_matter_and_tensors_are_taken() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 4, (3, 64))
    renamed = np.array([7, 2, -9, 0])[a]
    assert adjusted_rand_index(torch.from_numpy(a), torch.from_numpy(renamed)).tolist() == [1, 1, 1]


def test_unrelated_maps_have_no_adjusted_agreement_but_much_mutual_information() -> None:
    rng = np.random.default_rng(0)
    a, b = (np.argsort(rng.random((200, 256)), axis=1) // 2 for _ in range(2))
    assert abs(adjusted_rand_index(a, b).mean()) < 0.005
    assert normalized_mutual_information(a, b).mean() > 0.8


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((2, 8), dtype=int), np.zeros((2, 4), dtype=int)),
        (np.zeros((2, 8)), np.zeros((2, 8))),
        (np.zeros(8, dtype=int), np.zeros(8, dtype=int)),
    ],
)
def test_refuses_what_is_not_two_label_maps(a: np.ndarray, b: np.ndarray) -> None:
    for measure in (adjusted_rand_index, normalized_mutual_information):
        with pytest.raises(InputError):
            measure(a, b)
