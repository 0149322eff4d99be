"""Novelty: copies, new images and images from elsewhere, and its definition by pairs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.nearest_training import NearestTrainingMetric, novelty
from nvgbench.metrics.uncertainty import interval_of
from nvgbench.types import Features

_LENGTHS = st.lists(st.integers(0, 9).map(float), min_size=1, max_size=12)


@given(_LENGTHS, _LENGTHS)
def test_is_the_mann_whitney_statistic(near: list[float], held_out: list[float]) -> None:
    pairs = len(near) * len(held_out)
    found = novelty(np.array(near), np.array(held_out))
    assert found.value == pytest.approx(mannwhitneyu(near, held_out).statistic / pairs)
    assert found.parts.shape == (len(near),)


def test_copies_new_images_and_images_from_elsewhere() -> None:
    rng = np.random.default_rng(0)
    training, held_out, new = rng.standard_normal((3, 200, 6)).astype(np.float32)

    def score(samples: np.ndarray):
        none = np.zeros((0, 0), dtype=np.float32)
        generated, reference, seen = (Features(one, none, "") for one in (samples, held_out, training))
        inputs = MetricInputs(generated=generated, reference=reference, training=seen)
        return NearestTrainingMetric().compute(inputs)["novelty"]

    half_copied = np.concatenate([training[:100], new[:100]])
    assert score(training + 1e-4).value < 0.01
    assert score(half_copied).value == pytest.approx(score(new).value / 2, abs=0.03)
    assert score(new).value == pytest.approx(0.5, abs=4 * score(new).stderr)
    assert score(new + 20).value == 1
    interval = interval_of(score(training))
    assert interval is not None
    assert interval.low == score(training).value == 0 < interval.high < 0.05
