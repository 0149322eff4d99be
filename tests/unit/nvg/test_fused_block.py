"""The written-out derivative of a block against automatic differentiation.

Shape letters: B batch, N tokens, W width, D head size.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nvgbench.nvg.arithmetic import BlockWeights, single_stream
from nvgbench.nvg.fused import single_stream_fused
from nvgbench.nvg.rope import Rotation

B, N, W, D = 3, 5, 16, 8


def _inputs(dtype: torch.dtype) -> tuple[list[Tensor], Rotation]:
    rng = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64).to(dtype).requires_grad_()

    weights = [normal(7 * W, W), normal(7 * W), normal(W, 5 * W), normal(W), normal(D), normal(D)]
    angle = torch.randn(B, 1, N, D // 2, generator=rng, dtype=dtype)
    return [normal(B, N, W), normal(B, 3, W), *weights], Rotation(torch.stack((angle.cos(), angle.sin()), dim=-1))


def _results(function: Callable[..., Tensor], dtype: torch.dtype, last: int | None, keep: Tensor | None) -> tuple[Tensor, ...]:
    """The output, and the gradients of a fixed function of it."""
    (x, vectors, *weights), rotation = _inputs(dtype)
    y = function(x, vectors, rotation, BlockWeights(*weights), last, None if keep is None else keep.to(dtype))
    target = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    return y.detach(), *torch.autograd.grad(y, [x, vectors, *weights], target)


@pytest.mark.parametrize("keep", [None, torch.tensor([0.0, 1.25, 1.25]).view(3, 1, 1)], ids=["all kept", "one skipped"])
@pytest.mark.parametrize("last", [None, 2])
def test_the_derivative_equals_autograd(last: int | None, keep: Tensor | None) -> None:
    exact = _results(single_stream, torch.float64, last, keep)
    # `single_stream` normalises and rotates queries and keys in float32, whatever the type of the weights.
    for ours, theirs in zip(_results(single_stream_fused, torch.float64, last, keep), exact, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("last", [None, 2])
def test_the_derivative_equals_finite_differences(last: int | None) -> None:
    (x, vectors, *weights), rotation = _inputs(torch.float64)

    def function(x: Tensor, vectors: Tensor, *weights: Tensor) -> Tensor:
        return single_stream_fused(x, vectors, rotation, BlockWeights(*weights), last)

    assert torch.autograd.gradcheck(function, (x, vectors, *weights), fast_mode=True)


@pytest.mark.parametrize("last", [None, 2])
def test_float32_rounds_no_more_than_autograd(last: int | None) -> None:
    exact = _results(single_stream_fused, torch.float64, last, None)
    ours, theirs = (_results(function, torch.float32, last, None) for function in (single_stream_fused, single_stream))
    for value, fused, plain in zip(exact, ours, theirs, strict=True):
        # Both round at every step, in another order: neither is much farther from the exact result than the other.
        limit = 4 * (plain.double() - value).norm() + 1e-6 * value.norm()
        assert (fused.double() - value).norm() <= limit
