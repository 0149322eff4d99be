"""FDr: real images score 1, image by image over all extractors, and the interval covers other samples and real images."""

from __future__ import annotations

import numpy as np
import pytest

from nvgbench.errors import InputError
from nvgbench.metrics.frechet import distance_to_factor, frechet_contributions, gaussian_of
from nvgbench.metrics.frechet_ratio import mean_ratio
from nvgbench.metrics.uncertainty import Contributions, interval_of


def distance(features: np.ndarray, reference: np.ndarray) -> Contributions:
    centre, factor = gaussian_of(reference)
    return Contributions(
        value=distance_to_factor(features, centre, factor), parts=frechet_contributions(features, centre, factor)
    )


def test_the_mean_of_ratios_and_its_error() -> None:
    samples = [Contributions(value=6.0, parts=np.array([0.2, -0.2])), Contributions(value=10.0, parts=np.array([0.1, -0.1]))]
    real = [Contributions(value=2.0, parts=np.array([0.1, -0.1])), Contributions(value=10.0, parts=np.array([0.0, 0.0]))]
    found = mean_ratio(list(zip(samples, real, strict=True)))
    assert found.value == pytest.approx((3 + 1) / 2)
    assert found.parts == pytest.approx([(0.1 + 0.01) / 2, -(0.1 + 0.01) / 2])
    assert found.other_variance == pytest.approx(2 * (3 / 2 * 0.1 / 2) ** 2)
    assert found.stderr == pytest.approx(np.hypot(0.055 * 2**0.5, 0.075 * 2**0.5))


def test_identical_reference_and_real_images_are_refused() -> None:
    one = Contributions(value=1.0, parts=np.zeros(2))
    with pytest.raises(InputError, match="real images are those of the reference"):
        mean_ratio([(one, Contributions(value=0.0, parts=np.zeros(2)))])


def test_the_interval_covers_what_it_promises() -> None:
    """Real images as samples, two extractors that share their images. The bounds are three standard errors wide."""
    rng = np.random.default_rng(0)
    views = [rng.normal(size=(16, 12)), rng.normal(size=(16, 20))]
    reference = rng.normal(size=(500, 16))
    hits = []
    for _ in range(200):
        samples, real = rng.normal(size=(2, 400, 16))
        found = mean_ratio(
            [(distance(samples @ view, reference @ view), distance(real @ view, reference @ view)) for view in views]
        )
        interval = interval_of(found)
        assert interval is not None
        hits.append(interval.low <= 1 <= interval.high)
    assert 0.89 <= np.mean(hits) <= 0.995
