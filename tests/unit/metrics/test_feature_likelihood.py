"""Feature likelihood divergence: its definition in numpy, fitted variances, copies, new images, and what is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import logsumexp

from nvgbench.errors import InputError
from nvgbench.metrics import feature_likelihood as module
from nvgbench.metrics.feature_likelihood import Density, FeatureLikelihoodMetric, feature_likelihood
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.nearest_training import novelty
from nvgbench.metrics.neighbours import nearest_distances
from nvgbench.metrics.uncertainty import Contributions
from nvgbench.types import Features


def log_density(images: np.ndarray, centres: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """log p of each image."""
    squares = ((images[:, None] - centres) ** 2).sum(axis=2)
    return logsumexp(-squares / (2 * variances) - images.shape[1] / 2 * np.log(2 * np.pi * variances), axis=1) - np.log(
        len(centres)
    )


def fitted(centres: np.ndarray, images: np.ndarray) -> np.ndarray:
    return module._fit(torch.from_numpy(centres), torch.from_numpy(images)).variances_N.numpy()


def sets(n: int, d: int, copies: int = 0, noise: float = 0.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples, training and held-out images of one Gaussian; ``copies`` of the samples are noisy training images."""
    rng = np.random.default_rng(seed)
    samples, training, held_out = rng.standard_normal((3, n, d))
    samples[:copies] = training[:copies] + noise * rng.standard_normal((copies, d))
    return samples, training, held_out


def errors_apart(first: Contributions, second: Contributions) -> float:
    """Distance of two values in standard errors of their difference."""
    return abs(first.value - second.value) / np.hypot(first.stderr, second.stderr)


def test_is_the_definition() -> None:
    """Standardised features, halves, signs and scale; likelihoods in numpy. What is fitted is judged by the next test."""
    samples, training, held_out = sets(40, 3)
    standard = [(part - held_out.mean(axis=0)) / held_out.std(axis=0) for part in (samples, training, held_out)]
    rng = np.random.default_rng(0)
    _, order = rng.permutation(40), rng.permutation(40)
    half, other = standard[1][order[:20]], standard[1][order[20:]]
    usual = log_density(standard[2], half, fitted(half, other)).mean()
    variances = fitted(standard[0], standard[1])
    real, seen = (log_density(images, standard[0], variances).mean() for images in (standard[2], standard[1]))
    divergence, gap = feature_likelihood(samples, training, held_out)
    assert divergence.value == pytest.approx(-100 / 3 * (real - usual))
    assert gap.value == pytest.approx(-100 / 3 * seen - (-100 / 3 * real))


@pytest.mark.parametrize("copies", [0, 5])
def test_no_other_variances_make_the_images_more_likely(copies: int) -> None:
    centres, images, _ = sets(40, 3, copies=copies, noise=0.1)
    middle = images.mean(axis=0)

    def loss(logs: np.ndarray) -> float:
        """Negative log-likelihood per feature; the last number is of the base likelihood."""
        base = log_density(images, middle[None], np.exp(logs[-1:]))
        return -np.logaddexp(log_density(images, centres, np.exp(logs[:-1])), base).mean() / 3

    logs = np.log(fitted(centres, images))
    base = minimize(lambda one: loss(np.append(logs, one)), [0.0]).x
    start = np.append(logs, base)
    best = minimize(loss, start, method="L-BFGS-B")
    # The fit ends at a gain below 1e-5 per step; what the slow steps behind it would gain together is some ten times that.
    assert loss(start) - best.fun < 2e-4
    assert loss(start) < loss(start + 0.1) - 1e-3


def test_the_variance_of_a_sample_is_that_of_its_images() -> None:
    """Two samples far apart: every training image belongs to one of them."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0, 0.0], [1000.0, 0.0, 0.0]])
    images = np.concatenate([centres[0] + rng.standard_normal((30, 3)), centres[1] + 2 * rng.standard_normal((30, 3))])
    density = module._fit(torch.from_numpy(centres), torch.from_numpy(images))
    expected = [
        ((part - centre) ** 2).sum(axis=1).mean() / 3 for part, centre in zip(np.split(images, 2), centres, strict=True)
    ]
    assert density.variances_N.numpy() == pytest.approx(expected, rel=1e-6)


def test_contributions_are_the_likelihoods_without_each_sample() -> None:
    rng = np.random.default_rng(1)
    centres, images = rng.standard_normal((9, 4)), rng.standard_normal((20, 4))
    centres[0] = images[0]
    variances = rng.uniform(0.3, 2, 9)
    variances[0] = 1e-6  # the image at its centre has no other likelihood to speak of
    mean, without = Density(torch.from_numpy(centres), torch.from_numpy(variances)).likelihoods(torch.from_numpy(images))
    assert float(mean) == pytest.approx(log_density(images, centres, variances).mean())
    rest = [log_density(images, np.delete(centres, i, axis=0), np.delete(variances, i)).mean() for i in range(9)]
    assert without.numpy() == pytest.approx(rest)


def test_copies_raise_it_and_new_images_do_not() -> None:
    new, training, held_out = sets(300, 8)
    copied = sets(300, 8, copies=300, noise=0.01)[0]
    of_new, of_copies = (feature_likelihood(one, training, held_out)[0] for one in (new, copied))
    # The density around half of the training images has half as many Gaussians, so new images are a little better.
    assert -3 < of_new.value < 1
    assert of_copies.value > 1000
    far = feature_likelihood(new + 1.0, training, held_out)[0]
    assert errors_apart(far, of_new) > 5
    exact = feature_likelihood(training, training, held_out)
    assert all(np.isfinite([score.value, score.stderr]).all() for score in exact)


def test_the_gap_shows_a_few_copies_that_novelty_does_not() -> None:
    new, training, held_out = sets(500, 16)
    some = sets(500, 16, copies=10, noise=0.02)[0]
    gap, gap_of_some = (feature_likelihood(one, training, held_out)[1] for one in (new, some))
    assert gap.value < 0
    assert gap_of_some.value < gap.value
    assert errors_apart(gap_of_some, gap) > 2
    usual = nearest_distances(held_out, training)
    assert errors_apart(*(novelty(nearest_distances(one, training), usual) for one in (new, some))) < 1


def test_units_and_places_of_features_do_not_matter() -> None:
    given = sets(60, 4)
    moved = [np.hstack([part * 7 + 3, np.full((60, 1), 5.0)]) for part in given]  # and a feature that is always the same
    for one, other in zip(feature_likelihood(*given), feature_likelihood(*moved), strict=True):
        assert isinstance(other.value, float)
        assert np.isfinite(other.value)
        assert other.parts.shape == one.parts.shape == (60,)
    for one, other in zip(feature_likelihood(*given), feature_likelihood(*(7 * part + 3 for part in given)), strict=True):
        assert other.value == pytest.approx(one.value, rel=1e-6)


def test_what_it_needs() -> None:
    none = np.zeros((0, 0), dtype=np.float32)
    generated, training, reference = (Features(part.astype(np.float32), none, "") for part in sets(40, 4))
    metric = FeatureLikelihoodMetric()
    assert metric.compute(MetricInputs(generated=generated, reference=reference)) == {}
    inputs = MetricInputs(generated=generated, reference=reference, training=training)
    assert metric.compute(inputs).keys() == {"FLD", "FLD-gap"}
    with pytest.raises(InputError, match="training features: got 3"):
        feature_likelihood(*sets(3, 4))


def test_parts_of_large_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images outside of the part do not count, and blocks of images make no difference."""
    given = sets(90, 4)
    whole = feature_likelihood(*given)
    monkeypatch.setattr(module, "_BLOCK", 7)
    for one, other in zip(whole, feature_likelihood(*given), strict=True):
        assert other.value == pytest.approx(one.value)
        assert other.parts == pytest.approx(one.parts)
    monkeypatch.setattr(module, "PART", 60)
    for one, other in zip(whole, feature_likelihood(*given), strict=True):
        assert np.count_nonzero(other.parts) == 60
        assert other.note == "60 of 90 training images"
        assert errors_apart(one, other) < 3
