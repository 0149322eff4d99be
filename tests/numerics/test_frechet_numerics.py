"""The Fréchet distance against matrix square roots, two other packages and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvgbench.errors import InputError
from nvgbench.metrics.frechet import frechet_distance, frechet_from_features
from nvgbench.metrics.moments import Moments


def features(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return scale * rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) / np.sqrt(d) + shift


def by_sqrtm(x: np.ndarray, y: np.ndarray) -> float:
    """The textbook formula. ``scipy.linalg.sqrtm`` is called without ``disp``, which newer versions no longer take."""
    sigma_x, sigma_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = x.mean(axis=0) - y.mean(axis=0)
    return float(shift @ shift + np.trace(sigma_x + sigma_y - 2 * np.real(scipy.linalg.sqrtm(sigma_x @ sigma_y))))


@pytest.mark.parametrize(("n", "m", "d"), [(400, 300, 16), (500, 900, 64), (300, 400, 128)])
def test_equals_matrix_square_root(n: int, m: int, d: int) -> None:
    x, y = features(n, d, 0), features(m, d, 1, scale=1.3, shift=0.2)
    # Covariances of full rank: sqrtm keeps about nine digits.
    assert frechet_from_features(x, y) == pytest.approx(by_sqrtm(x, y), rel=1e-8)
    a, b = Moments.of(x), Moments.of(y)
    assert frechet_distance(a.mean, a.covariance, b.mean, b.covariance) == pytest.approx(by_sqrtm(x, y), rel=1e-8)


def test_equals_torch_fidelity() -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    x, y = features(700, 48, 2), features(600, 48, 3, scale=0.8, shift=-0.1)
    statistics = [fid_features_to_statistics(torch.from_numpy(part)) for part in (x, y)]
    theirs = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_from_features(x, y) == pytest.approx(theirs, rel=1e-9)


def test_equals_clean_fid(monkeypatch: pytest.MonkeyPatch) -> None:
    from cleanfid import fid

    # Its call of sqrtm(disp=False) fails with scipy 1.18; the square root itself is what is compared.
    monkeypatch.setattr(fid.linalg, "sqrtm", lambda a, disp=True, plain=scipy.linalg.sqrtm: (plain(a), 0.0))
    x, y = Moments.of(features(700, 48, 4)), Moments.of(features(600, 48, 5, scale=1.1))
    theirs = fid.frechet_distance(x.mean, x.covariance, y.mean, y.covariance)
    assert frechet_distance(x.mean, x.covariance, y.mean, y.covariance) == pytest.approx(theirs, rel=1e-9)


def test_commuting_gaussians_have_a_closed_form() -> None:
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    a, b = rng.uniform(0.1, 4, 20), rng.uniform(0.1, 4, 20)
    mu1, mu2 = rng.standard_normal((2, 20))
    exact = ((mu1 - mu2) ** 2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    found = frechet_distance(mu1, basis * a @ basis.T, mu2, basis * b @ basis.T)
    assert found == pytest.approx(exact, rel=1e-12)


def test_singular_covariances_are_exact() -> None:
    # Two Gaussians on lines at 60 degrees: the trace of the root of the product is |cos 60°| · 2 · 3.
    line1, line2 = np.zeros(50), np.zeros(50)
    line1[0] = 1
    line2[:2] = 0.5, np.sqrt(0.75)
    found = frechet_distance(np.zeros(50), 4 * np.outer(line1, line1), np.zeros(50), 9 * np.outer(line2, line2))
    assert found == pytest.approx(4 + 9 - 2 * 3.0, rel=1e-12)
    assert frechet_distance([0.0], [[0.0]], [2.0], [[9.0]]) == pytest.approx(13.0)


def test_rank_noise_does_not_add_up() -> None:
    # 40 images in 300 dimensions: routes through a product of covariances are off in the sixth digit here.
    x = features(40, 300, 6)
    moments = Moments.of(x)
    exact = frechet_from_features(x, 2 * x)
    assert exact == pytest.approx(float(np.trace(moments.covariance) + (moments.mean**2).sum()), rel=1e-10)
    found = frechet_distance(moments.mean, moments.covariance, 2 * moments.mean, 4 * moments.covariance)
    assert found == pytest.approx(exact, rel=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.integers(2, 60), st.integers(1, 40), st.integers(0, 2**20))
def test_gram_route_equals_moments_route(n: int, m: int, d: int, seed: int) -> None:
    x, y = features(n, d, seed), features(m, d, seed + 1, shift=0.3)
    a, b = Moments.of(x), Moments.of(y)
    expected = frechet_distance(a.mean, a.covariance, b.mean, b.covariance)
    # A covariance keeps eigenvalues to 1e-16 of the largest, their roots to 1e-8; so does a Gram matrix of two images.
    assert frechet_from_features(x, y) == pytest.approx(expected, rel=1e-7, abs=1e-7)
    assert frechet_from_features(y, x) == pytest.approx(frechet_from_features(x, y), rel=1e-8, abs=1e-8)


def test_same_set_is_at_distance_zero_and_a_shift_adds_its_square() -> None:
    x = features(100, 30, 7)
    assert frechet_from_features(x, x) == pytest.approx(0, abs=1e-10)
    assert frechet_from_features(x, x + 0.5) == pytest.approx(30 * 0.25, rel=1e-10)


def test_estimate_approaches_the_distance_of_the_gaussians() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.standard_normal((40_000, 4)), 2 * rng.standard_normal((40_000, 4)) + 1
    # 4 · 1² + 4 · (2 - 1)² = 8; its standard error at this n is about 0.05.
    assert frechet_from_features(x, y) == pytest.approx(8, abs=0.2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3), np.eye(2), np.zeros(3), np.eye(3)), "expected"),
        ((np.zeros((3, 1)), np.eye(3), np.zeros(3), np.eye(3)), "expected"),
        ((np.zeros(2), np.eye(2), np.zeros(3), np.eye(3)), "one extractor"),
        ((np.full(2, np.nan), np.eye(2), np.zeros(2), np.eye(2)), "NaN"),
        ((np.zeros(2), np.diag([1.0, -1.0]), np.zeros(2), np.eye(2)), "eigenvalue"),
        ((np.zeros(2), np.array([[1.0, 0.5], [0.0, 1.0]]), np.zeros(2), np.eye(2)), "symmetric"),
    ],
)
def test_refuses_what_is_no_gaussian(arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        frechet_distance(*arguments)


def test_refuses_features_that_do_not_fit() -> None:
    with pytest.raises(InputError, match="at least 2"):
        frechet_from_features(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(InputError, match="one extractor"):
        frechet_from_features(np.zeros((4, 3)), np.zeros((5, 2)))
    with pytest.raises(InputError, match="NaN or infinite"):
        frechet_from_features(np.full((4, 3), np.inf), np.zeros((5, 3)))
