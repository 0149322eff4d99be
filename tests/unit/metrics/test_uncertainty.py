"""Intervals: they cover what they say in small simulations, and two ways to a standard error agree."""

from __future__ import annotations

import numpy as np
import pytest

from nvgbench.errors import InputError
from nvgbench.metrics import uncertainty
from nvgbench.metrics.frechet import factor_of_features, frechet_from_features
from nvgbench.metrics.inception_score import inception_score
from nvgbench.metrics.prdc import neighbour_scores
from nvgbench.metrics.uncertainty import (
    frechet_interval,
    frechet_stderr,
    hits_interval,
    inception_score_interval,
    mean_interval,
    resampling_weights,
    share_interval,
)


def draw(n: int, d: int, seed: int, shift: float = 0.5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) * 1.2 + shift


REFERENCE = np.random.default_rng(10_000).standard_normal((400, 6))


def test_frechet_interval_covers_the_expected_score() -> None:
    scores = [frechet_from_features(draw(200, 6, seed), REFERENCE) for seed in range(400)]
    expected = np.mean(scores)
    covered = 0
    for seed in range(100):
        interval = frechet_interval(scores[seed], draw(200, 6, seed), REFERENCE, 150, seed=1)
        covered += interval.low <= expected <= interval.high
    # 95 % of 100, minus the binomial's spread and the interval's own roughness: a wrong width (half) would cover about 67.
    assert 86 <= covered <= 100


def test_linearised_and_resampled_spread_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = draw(300, 20, 1), np.random.default_rng(2).standard_normal((500, 20))
    value = frechet_from_features(x, y)
    resampled = frechet_interval(value, x, y, 400, seed=0)
    monkeypatch.setattr(uncertainty, "RESAMPLED_DIMENSIONS", 10)
    linear = frechet_interval(value, x, y, 400, seed=0)
    assert linear.method == "infinitesimal jackknife"
    assert linear.high - linear.low == pytest.approx(resampled.high - resampled.low, rel=0.25)
    assert linear.low < value < linear.high


def test_linearised_spread_agrees_with_repetition_below_full_rank() -> None:
    y = np.random.default_rng(3).standard_normal((100, 40))
    draws = [draw(30, 40, seed) for seed in range(200)]
    spread = np.std([frechet_from_features(x, y) for x in draws])
    estimates = [frechet_stderr(x, y.mean(axis=0), factor_of_features(y)) for x in draws[:40]]
    # With fewer images than features the distance is far from linear; the right size is what can be asked for.
    assert np.mean(estimates) == pytest.approx(spread, rel=0.35)


def test_mean_interval_covers() -> None:
    hits = 0
    for seed in range(200):
        values = np.random.default_rng(seed).random(150) < 0.7
        interval = mean_interval(values, 200, seed=0)
        hits += interval.low <= 0.7 <= interval.high
    assert 180 <= hits <= 199


def test_share_interval_is_wilsons_and_never_a_point() -> None:
    from scipy.stats import binomtest

    for hits in (0, 1, 30, 59, 60):
        interval = share_interval(np.arange(60) < hits)
        exact = binomtest(hits, 60).proportion_ci(0.95, method="wilson")
        assert (interval.low, interval.high) == pytest.approx((exact.low, exact.high), abs=1e-6)
        assert interval.high - interval.low > 0.05
    with pytest.raises(InputError, match="no images"):
        share_interval([])


def test_inception_score_interval_covers_the_expected_score() -> None:
    def log_p(seed: int) -> np.ndarray:
        logits = 2 * np.random.default_rng(seed).standard_normal((200, 5))
        return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))

    scores = [inception_score(log_p(seed), shuffle_seed=None).mean for seed in range(300)]
    covered = 0
    for seed in range(100):
        interval = inception_score_interval(scores[seed], log_p(seed), 200, seed=0)
        covered += interval.low <= np.mean(scores) <= interval.high
    assert 86 <= covered <= 100


def test_hits_interval_contains_its_value_and_is_seeded() -> None:
    scores = neighbour_scores(draw(150, 4, 1), REFERENCE[:, :4])
    interval = hits_interval(scores.coverage, scores.coverage_hits_Mh, 150, 200, seed=5)
    assert interval.low < scores.coverage < interval.high
    assert interval == hits_interval(scores.coverage, scores.coverage_hits_Mh, 150, 200, seed=5)
    # Measured over other draws of the same size; fixed radii leave a part of recall's spread out, not of coverage's.
    spread = np.std([neighbour_scores(draw(150, 4, seed), REFERENCE[:, :4]).coverage for seed in range(60)])
    assert (interval.high - interval.low) / 3.92 == pytest.approx(spread, rel=0.5)


def test_intervals_say_what_they_cover() -> None:
    interval = mean_interval([0.0, 1.0, 1.0], 50, seed=0)
    assert (interval.level, interval.source) == (0.95, "sampling")
    assert "50 replicates" in interval.method
    assert resampling_weights(7, 3, 0).sum(axis=1).tolist() == [7, 7, 7]
    with pytest.raises(InputError, match="at least 1"):
        resampling_weights(0, 3, 0)
