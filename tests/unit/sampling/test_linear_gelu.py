"""A linear layer with its GELU, against the two operations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from nvgbench.sampling import linear_gelu as module
from nvgbench.sampling.linear_gelu import linear_gelu


@pytest.fixture(autouse=True, scope="module")
def always_in_one() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_FEWEST", 0)
        yield


@settings(deadline=None)  # the first call sets oneDNN up
@given(st.integers(1, 70), st.integers(1, 40), st.integers(1, 70), st.sampled_from([0.01, 1.0, 10.0]), st.integers(0, 2**16))
def test_equals_both_operations(rows: int, width: int, hidden: int, scale: float, seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    x, weight, bias = (torch.randn(shape, generator=rng) for shape in ((2, rows, width), (3 * hidden, width), (3 * hidden,)))
    x, weight, bias = x[:, -((rows + 1) // 2) :] * scale, weight[hidden:], bias[hidden:]
    expected = F.gelu(F.linear(x.double(), weight.double(), bias.double()), approximate="tanh")
    # A sum of up to 40 products of numbers up to about 4 x 4 x scale in float32, and an activation with a slope of about 1.
    with torch.no_grad():
        found = linear_gelu(x, weight, bias)
    torch.testing.assert_close(found, expected.float(), rtol=1e-5, atol=3e-5 * max(scale, 1))


def test_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, bias = torch.randn(3, 5), torch.randn(7, 5), torch.randn(7)
    with torch.no_grad():
        fast = linear_gelu(x, weight, bias)
        monkeypatch.setattr(module, "_HAS_EPILOGUE", False)
        torch.testing.assert_close(linear_gelu(x, weight, bias), fast, rtol=1e-5, atol=1e-5)


def test_few_results_are_computed_in_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FEWEST", 22)
    x, weight, bias = torch.randn(3, 5), torch.randn(7, 5), torch.randn(7)
    with torch.no_grad():
        assert torch.equal(linear_gelu(x, weight, bias), F.gelu(F.linear(x, weight, bias), approximate="tanh"))


def test_has_a_derivative() -> None:
    weight = torch.randn(7, 5, requires_grad=True)
    linear_gelu(torch.randn(3, 5), weight, torch.randn(7)).sum().backward()
    assert weight.grad is not None
    assert weight.grad.any()


def test_its_flops_are_those_of_the_product() -> None:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        linear_gelu(torch.randn(2, 3, 5), torch.randn(7, 5), torch.randn(7))
    assert counter.get_total_flops() == 2 * (2 * 3 * 5 * 7)
