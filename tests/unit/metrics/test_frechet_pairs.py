"""The error of the distance of reconstructions: derivatives against finite differences, intervals by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from nvgbench.errors import InputError
from nvgbench.metrics.frechet import frechet_contributions, frechet_distance, frechet_from_features, gaussian_of
from nvgbench.metrics.frechet_pairs import METHOD, frechet_of_pairs
from nvgbench.metrics.uncertainty import Contributions, difference_error, interval_of

Pair = tuple[np.ndarray, np.ndarray]


def pairs(rng: np.random.Generator, n: int, d: int, shrink: float = 0.8, noise: float = 0.2) -> Pair:
    """Images, and blurred, noisy reconstructions of them whose errors depend on the image."""
    originals = rng.standard_normal((n, d)) * np.linspace(1, 0.3, d)
    made = shrink * originals + noise * rng.standard_normal((n, d)) + 0.1 * np.tanh(originals)
    return made, originals


def weighted_distance(sets: Pair, weights_N: np.ndarray) -> float:
    """The distance of both Gaussians if image i counts ``weights_N[i]`` times (in shares of 1), with ddof 1."""
    n = len(weights_N)
    share_N = weights_N / weights_N.sum()
    moments = []
    for features in sets:
        mean = share_N @ features
        deviations = features - mean
        moments += [mean, n / (n - 1) * (deviations.T * share_N) @ deviations]
    return frechet_distance(*moments)


@pytest.mark.parametrize(("n", "d"), [(40, 5), (30, 30), (12, 25)])
def test_contributions_are_the_derivatives_of_the_distance(n: int, d: int) -> None:
    sets = pairs(np.random.default_rng(n), n, d)
    step = 1e-5 * n
    slopes = []
    for image in range(n):
        ends = []
        for direction in (step, -step):
            weights_N = np.ones(n)
            weights_N[image] += direction
            ends.append(weighted_distance(sets, weights_N))
        slopes.append((ends[0] - ends[1]) / (2e-5))
    score = frechet_of_pairs(*sets)
    expected = np.array(slopes) / np.sqrt(n * (n - 1))
    # Central differences of step h are off by h², relative to the largest slope.
    assert score.parts == pytest.approx(expected, abs=1e-6 * np.abs(expected).max())
    assert score.value == frechet_from_features(*sets)
    assert score.method == METHOD


def test_many_pairs_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for n, d in ((50, 6), (20, 30)):
        sets = pairs(np.random.default_rng(0), n, d)
        whole = frechet_of_pairs(*sets).parts
        monkeypatch.setattr("nvgbench.metrics.frechet_pairs._BLOCK", 7)
        assert frechet_of_pairs(*sets).parts == pytest.approx(whole, abs=1e-12 * np.abs(whole).max())


@pytest.mark.parametrize(("n", "d"), [(250, 8), (60, 64), (40, 80)])
def test_intervals_contain_the_expected_distance(n: int, d: int) -> None:
    """200 repetitions: the share has a standard error of 1.5 points, and the spread one of 5 %."""
    rng = np.random.default_rng(1)
    scores, fixed = [], []
    for _ in range(200):
        made, originals = pairs(rng, n, d)
        scores.append(frechet_of_pairs(made, originals))
        fixed.append(np.linalg.norm(frechet_contributions(made, *gaussian_of(originals))))
    values = np.array([score.value for score in scores])
    errors = np.array([score.stderr for score in scores])
    assert 0.8 < errors.mean() / values.std(ddof=1) < 1.25
    assert np.mean(np.abs(values - values.mean()) < 1.96 * errors) > 0.9
    # With the originals held fixed they would be this much too wide.
    assert np.mean(fixed) > 1.5 * values.std(ddof=1)


def test_intervals_of_differences_contain_the_expected_difference() -> None:
    """Two tokenizers on the same images, compared image by image."""
    rng = np.random.default_rng(2)
    differences, errors = [], []
    for _ in range(200):
        made, originals = pairs(rng, 200, 8)
        other = 0.95 * made + 0.05 * rng.standard_normal(made.shape)
        old, new = frechet_of_pairs(made, originals), frechet_of_pairs(other, originals)
        differences.append(new.value - old.value)
        error = difference_error(old, new, paired=True)
        assert error is not None
        errors.append(error)
    deviations = np.abs(np.array(differences) - np.mean(differences))
    assert 0.9 < np.mean(deviations < 1.96 * np.array(errors)) < 0.99


@pytest.mark.parametrize(("n", "d"), [(20, 5), (5, 20)])
def test_exact_copies_have_no_error(n: int, d: int) -> None:
    originals = np.random.default_rng(3).standard_normal((n, d))
    score = frechet_of_pairs(originals, originals)
    assert score.value == pytest.approx(0, abs=1e-12)
    assert interval_of(score) is None


def test_equal_images_have_a_distance_and_no_interval() -> None:
    score: Contributions = frechet_of_pairs(np.ones((9, 4)), np.zeros((9, 4)))
    assert score.value == pytest.approx(4)
    assert interval_of(score) is None


def test_what_is_no_pair_of_feature_matrices_is_refused() -> None:
    with pytest.raises(InputError, match="3"):
        frechet_of_pairs(np.ones((2, 4)), np.ones((2, 4)))
    with pytest.raises(InputError, match="features"):
        frechet_of_pairs(np.ones((5, 4)), np.ones((5, 3)))
