"""KID-RBF against torch-fidelity's Gaussian kernel, its bandwidth, and its cut into parts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from nvgbench.errors import InputError
from nvgbench.metrics import rbf_kernel as module
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.rbf_kernel import RbfKernelMetric, bandwidth, rbf_kernel_distance
from nvgbench.types import Features


def clouds(n: int, m: int, d: int, seed: int, shift: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) + shift, rng.standard_normal((m, d))


@pytest.mark.parametrize("block", [7, 1024])
def test_equals_torch_fidelity(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_fidelity.metric_kid import kernel_rbf, mmd2

    monkeypatch.setattr(module, "_BLOCK", block)
    x, y = clouds(60, 60, 9, seed=0)
    parts = [kernel_rbf(a, b, kid_kernel_rbf_sigma=2.5) for a, b in ((x, x), (x, y), (y, y))]
    assert rbf_kernel_distance(x, y, sigma=2.5).value == pytest.approx(mmd2(*parts, mmd_est="unbiased"), abs=1e-12)


def test_bandwidth_is_the_mean_squared_distance_of_reference_images() -> None:
    _, y = clouds(1, 50, 6, seed=1)
    assert 2 * bandwidth(y) ** 2 == pytest.approx(np.mean(pdist(y) ** 2))


@settings(max_examples=15, deadline=None)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(1, 6), st.integers(0, 2**20), st.floats(1e-3, 1e3))
def test_order_offset_and_scale_do_not_matter(n: int, m: int, d: int, seed: int, scale: float) -> None:
    x, y = clouds(n, m, d, seed)
    order = np.random.default_rng(seed).permutation(n)
    one, other = rbf_kernel_distance(x, y), rbf_kernel_distance(scale * (x[order] + 5), scale * (y[::-1] + 5))
    assert other.value == pytest.approx(one.value, abs=1e-9)
    assert other.parts == pytest.approx(one.parts[order], abs=1e-9)


def test_parts_estimate_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = clouds(300, 200, 8, seed=2)
    whole = rbf_kernel_distance(x, y)
    monkeypatch.setattr(module, "PART", 70)
    cut = rbf_kernel_distance(x, y, seed=1)
    assert "5 parts" in cut.note
    assert cut.value == pytest.approx(whole.value, abs=3 * cut.stderr)
    # Smaller parts know less of what an image adds: the error may only grow.
    assert whole.stderr <= cut.stderr < 1.6 * whole.stderr
    assert rbf_kernel_distance(x, y, seed=1).value == cut.value != rbf_kernel_distance(x, y, seed=2).value


def test_unbiased_at_zero() -> None:
    values = [rbf_kernel_distance(*clouds(40, 40, 8, seed, shift=0.0)).value for seed in range(200)]
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(200)


def test_equal_reference_images_have_no_bandwidth() -> None:
    none = np.zeros((0, 0), dtype=np.float32)
    x, y = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32), np.ones((5, 3), dtype=np.float32)
    assert RbfKernelMetric().compute(MetricInputs(generated=Features(x, none, ""), reference=Features(y, none, ""))) == {}


def test_refuses_bad_input() -> None:
    with pytest.raises(InputError, match="at least 2"):
        rbf_kernel_distance(np.zeros((1, 3)), np.zeros((5, 3)))
