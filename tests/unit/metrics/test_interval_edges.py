"""Intervals of few and of degenerate images: none, or one with a width, which shares take from Wilson.

A width of 0 would claim certainty. It is right for no score of images: other images of the same model may differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from scipy.stats import binomtest

from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.registry import metrics
from nvgbench.metrics.uncertainty import Contributions, centred_interval, interval_of, mean_interval, median_interval
from nvgbench.types import Features

FEATURES, CLASSES, REFERENCE = 3, 4, 30
SHARES = ("precision", "accuracy")


def _features(points_ND: np.ndarray, scale: float = 2.0) -> Features:
    """Logits are a linear map of the features, so that equal images have equal logits."""
    weights_DK = np.random.default_rng(7).normal(size=(FEATURES, CLASSES)) * scale
    points_ND = points_ND.astype(np.float32)
    return Features(features_ND=points_ND, logits_NK=(points_ND @ weights_DK).astype(np.float32), fingerprint="")


def _normal(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, FEATURES))


SETS: dict[str, Callable[[int, int], np.ndarray]] = {
    "normal": _normal,
    "constant": lambda n, seed: np.ones((n, FEATURES)),
    "constant and far": lambda n, seed: np.full((n, FEATURES), 1e3),
    "collapsed to two": lambda n, seed: np.where(np.arange(n)[:, None] % 2, 1.0, -1.0) * np.ones((n, FEATURES)),
    "one differs": lambda n, seed: np.where(np.arange(n)[:, None] == 0, 2.0, 0.5) * np.ones((n, FEATURES)),
    "one mode": lambda n, seed: 1.0 + 1e-3 * _normal(n, seed),
    "on a line": lambda n, seed: _normal(n, seed)[:, :1] * np.ones((n, FEATURES)),
    "far away": lambda n, seed: 1e4 + _normal(n, seed),
}


def _scores(generated: np.ndarray, reference: np.ndarray) -> Mapping[str, Contributions]:
    n = len(generated)
    inputs = MetricInputs(
        generated=_features(generated),
        reference=_features(reference),
        extractor="classifier",
        labels_N=np.arange(n) % CLASSES,
        training=_features(_normal(20, 99)),
    )
    found: dict[str, Contributions] = {}
    for metric in metrics().values():
        if min(n, len(reference)) >= metric.fewest_images:
            found |= metric.compute(inputs)
    return found


def _check(name: str, score: Contributions, n: int) -> None:
    interval = interval_of(score)
    assert np.isfinite(score.value), name
    if interval is None:
        return
    assert np.isfinite([interval.low, interval.high]).all(), name
    assert interval.low <= score.value <= interval.high, name
    # Relative to the value: at 1e8 a rounding error is larger than 1e-12.
    assert interval.high - interval.low > 1e-12 * max(abs(score.value), 1e-6), f"{name}: {interval}"
    if name in SHARES:
        wilson = binomtest(round(score.value * n), n).proportion_ci(0.95, method="wilson")
        assert (interval.low, interval.high) == pytest.approx((wilson.low, wilson.high), abs=1e-12), name


@pytest.mark.parametrize("reference", ["normal", "constant"])
@pytest.mark.parametrize("kind", SETS)
def test_no_interval_of_few_images_has_zero_width(kind: str, reference: str) -> None:
    for n in range(1, 21):
        scores = _scores(SETS[kind](n, n), SETS[reference](REFERENCE, 0))
        for name, score in scores.items():
            _check(f"{name}", score, n)


def test_no_interval_of_the_reference_itself_has_zero_width() -> None:
    for n in range(2, 21):
        points = _normal(n, n)
        for name, score in _scores(points, points.copy()).items():
            _check(name, score, n)


@pytest.mark.parametrize("n", range(1, 30))
def test_small_splits_have_no_interval(n: int) -> None:
    score = _scores(_normal(n, n), _normal(REFERENCE, 0))["IS"]
    assert interval_of(score) is None  # ten splits of at most two images


def test_thirty_images_have_an_interval() -> None:
    interval = interval_of(_scores(_normal(30, 1), _normal(REFERENCE, 0))["IS"])
    assert interval is not None
    assert interval.high > interval.low


def test_equal_images_say_nothing_beyond_the_draw_of_subsets() -> None:
    # More reference images than generated ones: subsets of the reference are drawn, and their mean varies.
    score = _scores(np.ones((12, FEATURES)), _normal(REFERENCE, 0))["KID"]
    assert score.other_variance > 0
    assert score.stderr is None
    assert interval_of(score) is None


def test_equal_numbers_have_no_bootstrap_interval() -> None:
    assert mean_interval([0.1] * 7, 50, seed=0) is None
    assert mean_interval([3.0], 50, seed=0) is None
    assert centred_interval(0.3, np.full(50, 0.1 + 0.2), "bootstrap") is None


@pytest.fixture(scope="module")
def many_sets() -> list[Mapping[str, Contributions]]:
    """Scores of 150 sets of 15 images of one model."""
    return [_scores(_normal(15, 1000 + seed), _normal(REFERENCE, 0)) for seed in range(150)]


@pytest.mark.parametrize(
    "name",
    [
        *("FID", "KID", "density", "coverage", "recall", "precision"),
        *("MIND", "KID-RBF", "Vendi", "clipped-density", "clipped-coverage", "novelty"),
    ],
)
def test_errors_of_few_images_are_not_too_small(many_sets: list[Mapping[str, Contributions]], name: str) -> None:
    """The mean squared error bar must reach the variance over sets.

    Jackknife variances are biased upwards (Efron and Stein 1981). The floor of 0.7 allows for 150 sets (a variance is then
    known to about 12 %) and for the half of a term that coverage leaves out.
    """
    found = [scores[name] for scores in many_sets]
    variance = np.var([score.value for score in found], ddof=1)
    assert np.mean([(score.stderr or 0.0) ** 2 for score in found]) >= 0.7 * variance


def test_median_interval_covers() -> None:
    """Exact at any n: 95 % or more, here within the error of 400 sets."""
    rng = np.random.default_rng(3)
    intervals = [median_interval(rng.exponential(size=11)) for _ in range(400)]
    assert np.mean([one is not None and one.low <= np.log(2) <= one.high for one in intervals]) > 0.93
    assert median_interval(np.arange(5.0)) is None
    assert median_interval(np.ones(20)) is None
