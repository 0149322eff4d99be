"""Intervals: their coverage is measured by simulation, and leaving images out is exact."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pytest

from nvgbench.errors import InputError
from nvgbench.metrics.feature_likelihood import feature_likelihood
from nvgbench.metrics.frechet import (
    FrechetDistance,
    distance_to_factor,
    frechet_contributions,
    frechet_from_features,
    frechet_without,
    gaussian_of,
)
from nvgbench.metrics.inception_score import inception_contributions, score_in_order, split_score
from nvgbench.metrics.kernel import kernel_contributions, kernel_distance
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.mind import mind
from nvgbench.metrics.nearest_training import novelty
from nvgbench.metrics.neighbours import (
    NeighbourMetric,
    density_of_equal_terms,
    hit_contributions,
    nearest_distances,
    neighbour_scores,
)
from nvgbench.metrics.rbf_kernel import rbf_kernel_distance
from nvgbench.metrics.uncertainty import (
    Contributions,
    contributions_to_mean,
    difference_error,
    interval_of,
    leave_one_out,
    mean_interval,
    normal_interval,
    resampling_weights,
    share_interval,
)
from nvgbench.metrics.vendi import vendi_score
from nvgbench.types import Features, Interval

LOW, HIGH = 0.92, 0.98
"""What a 95 % interval has to cover. With 600 repetitions the share itself has a standard error of 0.009."""


class Tally:
    """Scores and intervals of repetitions; the expected score is their mean, whose own error is a twentieth of theirs."""

    def __init__(self) -> None:
        self.values: dict[str, list[float]] = defaultdict(list)
        self.intervals: dict[str, list[Interval]] = defaultdict(list)

    def add(self, name: str, score: Contributions) -> None:
        interval = interval_of(score)
        assert interval is not None
        self.values[name].append(score.value)
        self.intervals[name].append(interval)

    def coverage(self) -> dict[str, float]:
        found = {}
        for name, values in self.values.items():
            expected = np.mean(values)
            found[name] = float(np.mean([one.low <= expected <= one.high for one in self.intervals[name]]))
        return found


def inputs(x: np.ndarray, y: np.ndarray) -> MetricInputs:
    nothing = np.zeros((0, 0), dtype=np.float32)
    return MetricInputs(generated=Features(x, nothing), reference=Features(y, nothing))


def error(parts: np.ndarray) -> float:
    return float(np.sqrt((parts**2).sum()))


def neighbours_and_kernel(tally: Tally, repetitions: int, n: int, d: int) -> None:
    rng = np.random.default_rng(1)
    reference = rng.standard_normal((n, d)).astype(np.float32)
    for _ in range(repetitions):
        x = (1.1 * rng.standard_normal((n, d)) + 0.3).astype(np.float32)
        for name, score in NeighbourMetric().compute(inputs(x, reference)).items():
            tally.add(name, score)
        # One subset of all images, so that none of the error is the draw of the subsets.
        kernel = Contributions(value=kernel_distance(x, reference).mean, parts=kernel_contributions(x, reference))
        tally.add("KID", kernel)


def recall_in_many_dimensions(tally: Tally, repetitions: int, n: int, d: int) -> None:
    """Where a few images lie near many: their chance is most of recall's error."""
    rng = np.random.default_rng(5)
    reference = rng.standard_normal((n, d)).astype(np.float32)
    for _ in range(repetitions):
        x = (0.97 * rng.standard_normal((n, d)) + 0.1).astype(np.float32)
        tally.add(f"recall {n} x {d}", NeighbourMetric().compute(inputs(x, reference))["recall"])


def distances_and_diversity(tally: Tally, repetitions: int, n: int, d: int) -> None:
    rng = np.random.default_rng(6)
    scale = np.exp(-np.linspace(0, 2, d))
    reference, training = (rng.standard_normal((2, n, d)) * scale).astype(np.float32)
    held_out = nearest_distances(reference, training)
    for _ in range(repetitions):
        x = ((1.1 * rng.standard_normal((n, d)) + 0.2) * scale).astype(np.float32)
        tally.add("MIND", mind(x, reference))
        tally.add("KID-RBF", rbf_kernel_distance(x, reference))
        tally.add("Vendi", vendi_score(x))
        tally.add("novelty", novelty(nearest_distances(x, training), held_out))
        for name, score in zip(("FLD", "FLD-gap"), feature_likelihood(x, training, reference), strict=True):
            tally.add(name, score)


def inception(tally: Tally, repetitions: int, n: int, splits: int) -> None:
    rng = np.random.default_rng(2)
    for _ in range(repetitions):
        logits = 2 * rng.standard_normal((n, 6))
        tally.add(f"IS in {splits}", score_in_order(logits, splits=splits))


def frechet(tally: Tally, repetitions: int, n: int, d: int) -> None:
    rng = np.random.default_rng(3)
    scale = np.exp(-np.linspace(0, 2, d))
    centre, factor = gaussian_of(rng.standard_normal((300, d)) * scale)
    for _ in range(repetitions):
        x = (1.2 * rng.standard_normal((n, d)) + 0.2) * scale
        value = distance_to_factor(x, centre, factor)
        tally.add(f"FID {n} x {d}", Contributions(value=value, parts=frechet_contributions(x, centre, factor)))


def differences(tally: Tally, repetitions: int, n: int, d: int) -> None:
    """Two models whose images share their seeds: half of the variance is common."""
    rng = np.random.default_rng(4)
    reference = rng.standard_normal((n, d)).astype(np.float32)
    centre, factor = gaussian_of(reference)
    for _ in range(repetitions):
        common = rng.standard_normal((n, d))
        pair = [(0.8 * common + 0.6 * rng.standard_normal((n, d)) + shift).astype(np.float32) for shift in (0.2, 0.4)]
        old, new = (
            Contributions(value=distance_to_factor(x, centre, factor), parts=frechet_contributions(x, centre, factor))
            for x in pair
        )
        add_difference(tally, "difference of FID", old, new)
        assert difference_error(old, new, paired=True) < difference_error(old, new, paired=False)
        old, new = (NeighbourMetric().compute(inputs(x, reference))["coverage"] for x in pair)
        add_difference(tally, "difference of coverage", old, new)


def add_difference(tally: Tally, name: str, old: Contributions, new: Contributions) -> None:
    stderr, value = difference_error(old, new, paired=True), new.value - old.value
    assert stderr is not None
    tally.add(name, Contributions(value=value, parts=np.zeros(0), interval=normal_interval(value, stderr, "")))


def test_coverage_of_the_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.metrics.mind.DIRECTIONS", 64)  # their number does not concern the images' part of the error
    tally = Tally()
    distances_and_diversity(tally, 400, 150, 8)
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


def good_share(rng: np.random.Generator, n: int, d: int, share: float) -> np.ndarray:
    """Real images, of which all but a share are moved out of all balls."""
    x = rng.standard_normal((n, d)).astype(np.float32)
    x[rng.random(n) > share] += 20
    return x


@pytest.mark.slow
def test_known_limits_of_the_clipped_scores_and_of_vendi() -> None:
    """What docs/intervals.md tells: where the intervals are too narrow, too wide, or of no use."""
    tally, rng = Tally(), np.random.default_rng(7)
    small, usual = (rng.standard_normal((m, 12)).astype(np.float32) for m in (100, 200))
    for _ in range(200):
        for name, reference, n, share in (
            ("few good", usual, 200, 0.02),
            ("real", usual, 200, 1.0),
            ("many", small, 1000, 0.5),
        ):
            scores = NeighbourMetric().compute(inputs(good_share(rng, n, 12, share), reference))
            for score in ("clipped-density", "clipped-coverage"):
                tally.add(f"{score} {name}", scores[score])
        x = 1 + 0.05 * rng.standard_normal((100, 32))
        other = rng.random(100) < 0.01
        x[other] = rng.standard_normal((other.sum(), 32))
        tally.add("Vendi rare", vendi_score(x))
        tally.add("Vendi white", vendi_score(rng.standard_normal((60, 100))))
    found = tally.coverage()
    print({name: round(share, 3) for name, share in found.items()})
    assert found["clipped-coverage few good"] < LOW
    assert found["clipped-coverage many"] < 0.8
    assert LOW < found["clipped-density many"] < 0.99
    assert min(found["clipped-density real"], found["clipped-coverage real"], found["Vendi white"]) > 0.95
    assert found["Vendi rare"] < 0.8


@pytest.mark.parametrize(("n", "d"), [(30, 10), (30, 60), (12, 12), (13, 12), (14, 12)])
def test_leaving_images_out_of_a_distance_is_exact(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    x, y = 1.3 * rng.standard_normal((n, d)) + 0.2, rng.standard_normal((100, d))
    expected = [frechet_from_features(np.delete(x, i, axis=0), y) for i in range(n)]
    # What the quadrature cuts off at its ends.
    assert frechet_without(x, *gaussian_of(y)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("n", "d"), [(12, 4), (4, 12)])
def test_equal_images_have_a_distance_and_no_interval(n: int, d: int) -> None:
    """A class whose samples are all one picture: every part of the cross term is zero, which says nothing of other images."""
    x, y = np.full((n, d), 2.0), np.random.default_rng(0).normal(size=(20, d))
    expected = frechet_from_features(x, y)
    assert frechet_without(x, *gaussian_of(y)) == pytest.approx(expected, rel=1e-12)
    found = FrechetDistance().compute(inputs(x, y))["FID"]
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.stderr is None
    assert interval_of(found) is None


def test_leaving_images_out_of_an_inception_score_is_exact() -> None:
    log_p = np.log(np.random.default_rng(0).dirichlet(np.ones(5), 40))
    without = np.array([split_score(np.delete(log_p, i, axis=0)) for i in range(40)])
    assert inception_contributions(log_p) == pytest.approx(leave_one_out(without), abs=1e-13)
    # A last split of one image is 1 whatever it shows.
    assert inception_contributions(log_p, split_size=39)[-1] == 0


def test_contributions_of_means_and_kernels_are_the_usual_errors() -> None:
    values = np.random.default_rng(0).random(50)
    assert error(contributions_to_mean(values)) == pytest.approx(values.std(ddof=1) / np.sqrt(50))
    without = np.array([np.delete(values, i).mean() for i in range(50)])
    assert leave_one_out(without) == pytest.approx(contributions_to_mean(values))


def test_what_rounding_tells_apart_contributes_nothing() -> None:
    third = np.full(7, 1 / 3)
    third[::2] += 1e-16
    assert not contributions_to_mean(third).any()
    assert not leave_one_out(1e6 * third).any()
    assert contributions_to_mean(third + 1e-9 * np.arange(7)).any()


def test_a_bootstrap_of_few_images_is_too_wide_for_the_distance() -> None:
    """Why the distance is not resampled: sets with copies have another shape."""
    rng = np.random.default_rng(0)
    centre, factor = gaussian_of(rng.standard_normal((300, 60)))
    draws = [1.2 * rng.standard_normal((60, 60)) for _ in range(60)]
    spread = np.std([distance_to_factor(x, centre, factor) for x in draws])
    resampled = np.std([distance_to_factor(draws[0][rng.integers(60, size=60)], centre, factor) for _ in range(60)])
    assert resampled > 1.7 * spread
    errors = [error(frechet_contributions(x, centre, factor)) for x in draws[:20]]
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
    for hits in (nothing, shared):
        assert not hit_contributions(hits, 40).any()
    # Two clusters: no sample near the reference, so that precision, recall, density and coverage are all 0.
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((50, 4)).astype(np.float32) + shift for shift in (100, 0))
    for name, score in NeighbourMetric().compute(inputs(x, y)).items():
        interval = interval_of(score)
        assert score.value == 0, name
        assert interval is not None, name
        assert interval.low <= 0 < interval.high, name
        assert interval.method.startswith("Wilson"), name


@pytest.mark.parametrize("n", [50, 200, 5000])
def test_a_density_of_nothing_but_zeros_is_not_certain(n: int) -> None:
    """It reaches as far as a share of real images of which n samples show none in one of 40 cases, and hardly farther."""
    interval = density_of_equal_terms(np.zeros(n))
    share = 1 - 0.025 ** (1 / n)
    assert interval.low == 0
    assert share <= interval.high <= 1.05 * share
    assert interval.method.startswith("Wilson")


def test_a_real_image_counts_as_a_density_of_one() -> None:
    found = [neighbour_scores(*np.random.default_rng(seed).standard_normal((2, 80, 5))).density for seed in range(60)]
    assert np.mean(found) == pytest.approx(1, abs=4 * np.std(found) / np.sqrt(60))


def test_one_picture_again_and_again_has_no_certain_density() -> None:
    interval = density_of_equal_terms(np.full(100, 2.4))
    other = share_interval(np.zeros(100)).high
    assert (interval.low, interval.high) == pytest.approx((2.4 - 2.4 * other, 2.4 + 2.4 * other))


def test_intervals_say_what_they_cover() -> None:
    interval = mean_interval([0.0, 1.0, 1.0], 50, seed=0)
    assert (interval.level, interval.source) == (0.95, "sampling")
    assert "50 replicates" in interval.method
    assert resampling_weights(7, 3, 0).sum(axis=1).tolist() == [7, 7, 7]
    with pytest.raises(InputError, match="at least 1"):
        resampling_weights(0, 3, 0)
    with pytest.raises(InputError, match="at least 3"):
        frechet_contributions(np.zeros((2, 2)), np.zeros(2), np.eye(2))
