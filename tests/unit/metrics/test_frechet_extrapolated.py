"""FID∞ recovers a known limit within the error it states."""

from __future__ import annotations

import numpy as np
import pytest

from nvgbench.errors import InputError
from nvgbench.metrics.frechet import distance_to_factor
from nvgbench.metrics.frechet_extrapolated import extrapolated_frechet, fewest_images

D, SHIFT, SCALE = 8, 0.3, 1.2
LIMIT = D * (SHIFT**2 + (SCALE - 1) ** 2)
"""Squared distance of N(SHIFT, SCALE²) from N(0, 1) in each of D independent features."""


def test_recovers_the_distance_of_two_gaussians() -> None:
    rng = np.random.default_rng(0)
    values, errors, finite = [], [], []
    for seed in range(120):
        x = SCALE * rng.standard_normal((400, D)) + SHIFT
        found = extrapolated_frechet(x, np.zeros(D), np.eye(D), seed=seed)
        values.append(found.value)
        errors.append(np.sqrt((found.parts**2).sum()))
        finite.append(distance_to_factor(x, np.zeros(D), np.eye(D)))
        assert found.sizes == (400, 200, 133, 100)
        assert found.distances[0] == pytest.approx(finite[-1])
        assert found.distances[3] > found.distances[0]
        assert found.slope > 0
    covered = np.mean(np.abs(np.array(values) - LIMIT) < 1.96 * np.array(errors))
    # 95 % of 120 repetitions, less three of their standard errors.
    assert covered > 0.89
    # The mean of 120 is within three of its errors, where the distance of 400 images is not.
    tolerance = 3 * np.std(values) / np.sqrt(120)
    assert abs(np.mean(values) - LIMIT) < tolerance
    assert np.mean(finite) - LIMIT > 2 * tolerance
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.25)


def test_is_seeded_and_refuses_too_few_images() -> None:
    x = np.random.default_rng(1).standard_normal((fewest_images(3), 3))
    first, again, other = (extrapolated_frechet(x, np.zeros(3), np.eye(3), seed=seed) for seed in (4, 4, 5))
    assert (first.value, first.slope) == (again.value, again.slope)
    assert np.array_equal(first.parts, again.parts)
    assert first.value != other.value
    with pytest.raises(InputError, match="below 24 images"):
        extrapolated_frechet(x[1:], np.zeros(3), np.eye(3))
