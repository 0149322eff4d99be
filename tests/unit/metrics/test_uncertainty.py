"""Intervals: what they say they cover is measured by simulation, and leaving out is exact."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest
from scipy.special import log_softmax

from nvgbench.errors import InputError
from nvgbench.metrics.frechet import distance_to_factor, frechet_from_features, gaussian_of
from nvgbench.metrics.inception_score import inception_score, weighted_scores
from nvgbench.metrics.jackknife import (
    contributions_without,
    frechet_contributions,
    frechet_without,
    hits_contributions,
    inception_contributions,
    mean_contributions,
    standard_error,
)
from nvgbench.metrics.kernel import kernel_contributions, kernel_distance, kernel_stderr
from nvgbench.metrics.prdc import neighbour_scores
from nvgbench.metrics.uncertainty import (
    coverage_interval,
    density_interval,
    frechet_interval,
    inception_score_interval,
    jackknife_interval,
    mean_interval,
    normal_interval,
    recall_interval,
    resampling_weights,
    share_interval,
)
from nvgbench.types import Interval

LOW, HIGH = 0.92, 0.98
"""What a 95 % interval has to cover. With 600 repetitions the share itself has a standard error of 0.009."""


class Tally:
    """Scores and intervals of repetitions; the expected score is their mean, whose own error is a twentieth of theirs."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)
        self.intervals: dict[str, list[Interval]] = defaultdict(list)

    def add(self, name: str, value: float, interval: Interval) -> None:
        self.values[name].append(value)
        self.intervals[name].append(interval)

    def coverage(self) -> dict[str, float]:
        found = {}
        for name, values in self.values.items():
            expected = np.mean(values)
            found[name] = float(np.mean([one.low <= expected <= one.high for one in self.intervals[name]]))
        return found


def neighbours_and_kernel(tally: Tally, repetitions: int, n: int, d: int) -> None:
    rng = np.random.default_rng(1)
    reference = rng.standard_normal((n, d)).astype(np.float32)
    for _ in range(repetitions):
        x = (1.1 * rng.standard_normal((n, d)) + 0.3).astype(np.float32)
        found = neighbour_scores(x, reference)
        tally.add("precision", found.precision, share_interval(found.inside_N))
        tally.add("density", found.density, jackknife_interval(found.density, mean_contributions(found.density_N)))
        tally.add("recall", found.recall, recall_interval(found.recall, found.recall_contributions_R, found.reached_M))
        tally.add("coverage", found.coverage, coverage_interval(found.coverage, found.coverage_hits_Mh, n))
        kernel = kernel_distance(x, reference).mean
        tally.add("KID", kernel, normal_interval(kernel, kernel_stderr(x, reference), ""))


def recall_in_many_dimensions(tally: Tally, repetitions: int, n: int, d: int) -> None:
    """Where a few images lie near many: their chance is most of recall's error."""
    rng = np.random.default_rng(5)
    reference = rng.standard_normal((n, d)).astype(np.float32)
    for _ in range(repetitions):
        found = neighbour_scores((0.97 * rng.standard_normal((n, d)) + 0.1).astype(np.float32), reference)
        interval = recall_interval(found.recall, found.recall_contributions_R, found.reached_M)
        tally.add(f"recall {n} x {d}", found.recall, interval)


def inception(tally: Tally, repetitions: int, n: int, splits: int) -> None:
    rng = np.random.default_rng(2)
    for _ in range(repetitions):
        logits = 2 * rng.standard_normal((n, 6))
        score = inception_score(logits, splits=splits, shuffle_seed=None).mean
        interval = inception_score_interval(score, log_softmax(logits, axis=1), splits=splits)
        tally.add(f"IS in {splits}", score, interval)


def frechet(tally: Tally, repetitions: int, n: int, d: int) -> None:
    rng = np.random.default_rng(3)
    scale = np.exp(-np.linspace(0, 2, d))
    centre, factor = gaussian_of(rng.standard_normal((300, d)) * scale)
    for _ in range(repetitions):
        x = (1.2 * rng.standard_normal((n, d)) + 0.2) * scale
        value = distance_to_factor(x, centre, factor)
        tally.add(f"FID {n} x {d}", value, frechet_interval(value, x, centre, factor))


def differences(tally: Tally, repetitions: int, n: int, d: int) -> None:
    """Two models whose images share their seeds: half of the variance is common."""
    rng = np.random.default_rng(4)
    reference = rng.standard_normal((n, d)).astype(np.float32)
    centre, factor = gaussian_of(reference)
    for _ in range(repetitions):
        common = rng.standard_normal((n, d))
        pair = [(0.8 * common + 0.6 * rng.standard_normal((n, d)) + shift).astype(np.float32) for shift in (0.2, 0.4)]
        value = distance_to_factor(pair[1], centre, factor) - distance_to_factor(pair[0], centre, factor)
        old, new = (frechet_contributions(x, centre, factor) for x in pair)
        tally.add("difference of FID", value, jackknife_interval(value, new - old))
        alone = np.hypot(standard_error(new), standard_error(old))
        assert standard_error(new - old) < alone
        before, after = (neighbour_scores(x, reference) for x in pair)
        old, new = (hits_contributions(found.coverage_hits_Mh, n) for found in (before, after))
        tally.add(
            "difference of coverage",
            after.coverage - before.coverage,
            jackknife_interval(after.coverage - before.coverage, new - old),
        )


def test_coverage_of_the_intervals() -> None:
    tally = Tally()
    neighbours_and_kernel(tally, 600, 200, 12)
    recall_in_many_dimensions(tally, 400, 200, 64)
    inception(tally, 600, 150, 1)
    inception(tally, 600, 300, 10)
    frechet(tally, 600, 250, 8)
    frechet(tally, 600, 40, 80)
    differences(tally, 400, 240, 8)
    found = tally.coverage()
    print({name: round(share, 3) for name, share in found.items()})
    assert {name: share for name, share in found.items() if not LOW <= share <= HIGH} == {}


@pytest.mark.slow
def test_coverage_of_the_intervals_at_larger_sizes() -> None:
    tally = Tally()
    neighbours_and_kernel(tally, 1000, 400, 10)
    inception(tally, 1000, 1000, 10)
    frechet(tally, 1000, 500, 64)
    frechet(tally, 500, 150, 300)
    differences(tally, 600, 300, 8)
    found = tally.coverage()
    print({name: round(share, 3) for name, share in found.items()})
    assert {name: share for name, share in found.items() if not LOW <= share <= HIGH} == {}


@pytest.mark.parametrize(("n", "d"), [(30, 10), (30, 60), (12, 12), (13, 12), (14, 12)])
def test_leaving_images_out_of_a_distance_is_exact(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    x, y = 1.3 * rng.standard_normal((n, d)) + 0.2, rng.standard_normal((100, d))
    expected = [frechet_from_features(np.delete(x, i, axis=0), y) for i in range(n)]
    # What the quadrature cuts off at its ends.
    assert frechet_without(x, *gaussian_of(y)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("n", "d"), [(12, 4), (4, 12)])
def test_equal_images_have_a_distance_without_an_interval_of_any_width(n: int, d: int) -> None:
    """A class whose samples are all one picture: every part of the cross term is zero."""
    x, y = np.full((n, d), 2.0), np.random.default_rng(0).normal(size=(20, d))
    expected = frechet_from_features(x, y)
    assert frechet_without(x, *gaussian_of(y)) == pytest.approx(expected, rel=1e-12)
    interval = frechet_interval(expected, x, *gaussian_of(y))
    assert interval.low == pytest.approx(expected, rel=1e-9)
    assert interval.high == pytest.approx(expected, rel=1e-9)


def test_leaving_images_out_of_an_inception_score_is_exact() -> None:
    log_p = np.log(np.random.default_rng(0).dirichlet(np.ones(5), 40))
    without = np.array([float(weighted_scores(np.delete(log_p, i, axis=0))[0]) for i in range(40)])
    assert inception_contributions(log_p) == pytest.approx(contributions_without(without), abs=1e-13)
    # A last split of one image is 1 whatever it shows.
    assert inception_contributions(log_p, split_size=39)[-1] == 0


def test_contributions_of_means_and_kernels_are_the_usual_errors() -> None:
    values = np.random.default_rng(0).random(50)
    assert standard_error(mean_contributions(values)) == pytest.approx(values.std(ddof=1) / np.sqrt(50))
    without = np.array([np.delete(values, i).mean() for i in range(50)])
    assert contributions_without(without) == pytest.approx(mean_contributions(values))
    x, y = (np.random.default_rng(seed).standard_normal((60, 5)) for seed in (1, 2))
    assert standard_error(kernel_contributions(x, y)) == pytest.approx(kernel_stderr(x, y))


def test_a_bootstrap_of_few_images_is_too_wide_for_the_distance() -> None:
    """Why the distance is not resampled: sets with copies have another shape."""
    rng = np.random.default_rng(0)
    centre, factor = gaussian_of(rng.standard_normal((300, 60)))
    draws = [1.2 * rng.standard_normal((60, 60)) for _ in range(60)]
    spread = np.std([distance_to_factor(x, centre, factor) for x in draws])
    resampled = np.std([distance_to_factor(draws[0][rng.integers(60, size=60)], centre, factor) for _ in range(60)])
    assert resampled > 1.7 * spread
    errors = [standard_error(frechet_contributions(x, centre, factor)) for x in draws[:20]]
    # Efron and Stein: an upper bound on average; at N = D, the worst place, by less than a third.
    assert 0.85 * spread < np.mean(errors) < 1.4 * spread


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


def test_hits_that_no_image_has_alone_still_have_an_interval() -> None:
    """Leaving one image out changes nothing then, and a point would decide every comparison."""
    nothing, shared = np.full((50, 3), -1), np.full((50, 3), -1)
    shared[0] = 1, 2, 3
    for hits, share in ((nothing, 0.0), (shared, 0.02)):
        interval = coverage_interval(share, hits, 40)
        assert interval.low <= share < interval.high
        assert interval.method == "Wilson"


@pytest.mark.parametrize("n", [50, 200, 5000])
def test_a_density_of_nothing_but_zeros_is_not_certain(n: int) -> None:
    """It reaches as far as a share of real images of which n samples show none in one of 40 cases, and hardly farther."""
    interval = density_interval(np.zeros(n))
    share = 1 - 0.025 ** (1 / n)
    assert interval.low == 0
    assert share <= interval.high <= 1.05 * share
    assert interval.method.startswith("Wilson")


def test_a_real_image_counts_as_a_density_of_one() -> None:
    found = [neighbour_scores(*np.random.default_rng(seed).standard_normal((2, 80, 5))).density for seed in range(60)]
    assert np.mean(found) == pytest.approx(1, abs=4 * np.std(found) / np.sqrt(60))


def test_one_picture_again_and_again_has_no_certain_density() -> None:
    interval = density_interval(np.full(100, 2.4))
    other = share_interval(np.zeros(100)).high
    assert (interval.low, interval.high) == pytest.approx((2.4 - 2.4 * other, 2.4 + 2.4 * other))
    terms = np.array([0.0] * 99 + [0.2])
    assert density_interval(terms) == jackknife_interval(terms.mean(), mean_contributions(terms))


def test_intervals_say_what_they_cover() -> None:
    interval = mean_interval([0.0, 1.0, 1.0], 50, seed=0)
    assert (interval.level, interval.source) == (0.95, "sampling")
    assert "50 replicates" in interval.method
    assert resampling_weights(7, 3, 0).sum(axis=1).tolist() == [7, 7, 7]
    with pytest.raises(InputError, match="at least 1"):
        resampling_weights(0, 3, 0)
    with pytest.raises(InputError, match="at least 3"):
        frechet_contributions(np.zeros((2, 2)), np.zeros(2), np.eye(2))
