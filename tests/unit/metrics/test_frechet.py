"""A triangular factor takes a shorter way to the same distance."""

from __future__ import annotations

import numpy as np
import pytest

from nvgbench.metrics.frechet import distance_to_factor, factor_of_features


def test_a_triangular_factor_and_any_other_of_the_same_covariance_give_one_distance() -> None:
    rng = np.random.default_rng(0)
    x, y = 1.2 * rng.standard_normal((200, 24)), rng.standard_normal((300, 24))
    factor, centre = factor_of_features(y), y.mean(axis=0)
    assert not np.triu(factor, 1).any()
    turned = factor @ np.linalg.qr(rng.standard_normal((24, 24)))[0]
    assert np.triu(turned, 1).any()
    assert distance_to_factor(x, centre, factor) == pytest.approx(distance_to_factor(x, centre, turned), rel=1e-12)
