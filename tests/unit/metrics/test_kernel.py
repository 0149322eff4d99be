"""The kernel distance against torch-fidelity, and its standard error against repetition."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nvgbench.errors import InputError
from nvgbench.metrics import kernel
from nvgbench.metrics.kernel import cmmd, kernel_contributions, kernel_distance


def sets(n: int, m: int, d: int, seed: int, shift: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) + shift, rng.standard_normal((m, d))


def error(parts: np.ndarray) -> float:
    return float(np.sqrt((parts**2).sum()))


def test_equals_torch_fidelity_on_whole_sets() -> None:
    from torch_fidelity.metric_kid import kid_features_to_metric

    x, y = sets(200, 200, 32, seed=0)
    theirs = kid_features_to_metric(
        torch.from_numpy(x), torch.from_numpy(y), kid_subsets=2, kid_subset_size=200, verbose=False
    )["kernel_inception_distance_mean"]
    ours = kernel_distance(x, y, subset_size=200)
    assert ours.subsets == 1
    assert ours.mean == pytest.approx(theirs, rel=1e-4)  # products in float32 here, float64 there


def test_subsets_are_seeded_and_centred_on_the_whole() -> None:
    x, y = sets(300, 400, 16, seed=1)
    first = kernel_distance(x, y, subsets=60, subset_size=100, seed=3)
    assert first == kernel_distance(x, y, subsets=60, subset_size=100, seed=3)
    assert first != kernel_distance(x, y, subsets=60, subset_size=100, seed=4)
    whole = kernel_distance(x, y[:300], subset_size=300).mean
    assert first.mean == pytest.approx(whole, abs=4 * first.std / np.sqrt(60) + 0.01)


def test_unbiased_at_zero() -> None:
    values = [kernel_distance(*sets(60, 60, 8, seed, shift=0.0), subset_size=60).mean for seed in range(200)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(200)


def test_standard_error_agrees_with_repetition() -> None:
    _, y = sets(1, 400, 8, seed=99)
    draws = [sets(200, 1, 8, seed, shift=0.3)[0] for seed in range(150)]
    spread = np.std([kernel_distance(x, y, subsets=1, subset_size=200, seed=0).mean for x in draws[:1]])
    assert spread == 0
    witness = [float(_full(x, y)) for x in draws]
    estimates = [error(kernel_contributions(x, y)) for x in draws[:20]]
    assert np.mean(estimates) == pytest.approx(np.std(witness), rel=0.25)


def _full(x: np.ndarray, y: np.ndarray) -> float:
    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    n, m = len(x), len(y)
    kxx, kyy = kernel(x, x), kernel(y, y)
    within = (kxx.sum() - np.trace(kxx)) / (n * (n - 1)) + (kyy.sum() - np.trace(kyy)) / (m * (m - 1))
    return within - 2 * kernel(x, y).mean()


def test_refuses_bad_input() -> None:
    with pytest.raises(InputError, match="at least 2"):
        kernel_distance(np.zeros((1, 3)), np.zeros((5, 3)))
    with pytest.raises(InputError, match="subsets"):
        kernel_distance(np.zeros((4, 3)), np.zeros((5, 3)), subsets=0)


def unit(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    points = np.random.default_rng(seed).standard_normal((n, 12)) + shift
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_cmmd_is_its_formula_for_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = unit(70, 0, 0.5), unit(90, 1)

    def mean(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.exp(-((a[:, None] - b) ** 2).sum(axis=2) / 200).mean())

    expected = 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))
    for block in (7, 1024):
        monkeypatch.setattr(kernel, "_BLOCK", block)
        # Differences of kernel means near 1 leave about twelve digits of a thousand.
        assert cmmd(x, y).value == pytest.approx(expected, abs=1e-9)
    assert cmmd(x, x).value == pytest.approx(0, abs=1e-9)


def test_cmmd_equals_torch_fidelitys_gaussian_kernel() -> None:
    from torch_fidelity.metric_kid import kernel_rbf, mmd2

    x, y = unit(80, 2, 0.5), unit(80, 3)
    parts = [kernel_rbf(a, b, kid_kernel_rbf_sigma=10.0) for a, b in ((x, x), (x, y), (y, y))]
    assert cmmd(x, y).value == pytest.approx(1000 * mmd2(*parts, mmd_est="biased"), abs=1e-9)


def test_cmmd_error_agrees_with_repetition() -> None:
    y = unit(400, 99)
    draws = [unit(200, seed, 0.3) for seed in range(100)]
    spread = np.std([cmmd(x, y).value for x in draws])
    assert np.mean([error(cmmd(x, y).parts) for x in draws[:20]]) == pytest.approx(spread, rel=0.25)
