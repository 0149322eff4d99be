"""Nearest codes and the straight-through estimators."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvgbench.autoencoder import quantization
from nvgbench.autoencoder.quantization import entropy_term, make_codebook, nearest_codes, soft_codes, straight_through


@given(seed=st.integers(0, 2**31), vectors=st.integers(1, 40), codes=st.integers(1, 30), channels=st.integers(1, 8))
@settings(max_examples=40, deadline=None)
def test_nearest_codes_agree_with_a_plain_search(seed: int, vectors: int, codes: int, channels: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    # Integers keep the arithmetic exact and make ties frequent.
    vectors_NC = torch.randint(-3, 4, (vectors, channels), generator=rng).float()
    codebook_VC = torch.randint(-3, 4, (codes, channels), generator=rng).float()
    expected = (vectors_NC[:, None] - codebook_VC).square().sum(-1).argmin(1)
    assert torch.equal(nearest_codes(vectors_NC, codebook_VC), expected)


def test_the_first_of_equal_codes_is_chosen() -> None:
    codebook_VC = torch.tensor([[5.0], [1.0], [-1.0], [1.0]])
    assert nearest_codes(torch.tensor([[0.0], [1.0]]), codebook_VC).tolist() == [1, 1]


def test_chunks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors_NC, codebook_VC = torch.randn(101, 6), torch.randn(17, 6)
    whole = nearest_codes(vectors_NC, codebook_VC)
    monkeypatch.setattr(quantization, "CHUNK_ELEMENTS", 17 * 4)
    assert torch.equal(nearest_codes(vectors_NC, codebook_VC), whole)


def test_half_precision_vectors_are_compared_in_full_precision() -> None:
    codebook_VC = torch.tensor([[256.0], [257.0]])  # bfloat16 cannot tell these apart
    with torch.autocast("cpu", torch.bfloat16):
        assert nearest_codes(torch.tensor([[257.0]]), codebook_VC).item() == 1


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other() -> None:
    continuous, quantized = torch.randn(4, requires_grad=True), torch.randn(4, requires_grad=True)
    result = straight_through(quantized, continuous)
    torch.testing.assert_close(result, quantized)
    (result * torch.arange(4.0)).sum().backward()
    assert continuous.grad is not None
    assert continuous.grad.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert quantized.grad is None


def test_soft_codes_equal_the_hard_ones_and_reach_every_code() -> None:
    rng = torch.Generator().manual_seed(1)
    vectors_NC = torch.randn(9, 4, generator=rng, requires_grad=True)
    codebook_VC = torch.randn(12, 4, generator=rng, requires_grad=True)
    indices_N, codes_NC = soft_codes(vectors_NC, codebook_VC)
    assert torch.equal(indices_N, nearest_codes(vectors_NC, codebook_VC))
    torch.testing.assert_close(codes_NC, codebook_VC[indices_N])
    codes_NC.square().sum().backward()
    assert codebook_VC.grad is not None
    assert vectors_NC.grad is not None
    assert bool((codebook_VC.grad.abs().sum(1) > 0).all())
    assert bool((vectors_NC.grad.abs().sum(1) > 0).all())


def test_entropy_term_prefers_confident_and_even_assignments() -> None:
    codebook_VC = torch.eye(4) * 20
    assert entropy_term(codebook_VC, codebook_VC).item() == pytest.approx(-math.log(4), abs=1e-5)
    assert entropy_term(codebook_VC[:1].expand(4, -1), codebook_VC).item() == pytest.approx(0.0, abs=1e-5)
    assert entropy_term(torch.zeros(4, 4), codebook_VC).item() == pytest.approx(0.0, abs=1e-5)


def test_codebook_starts_within_one_over_its_size() -> None:
    weight = make_codebook(64, 8).weight
    assert weight.shape == (64, 8)
    assert 0.9 / 64 < weight.abs().max().item() <= 1 / 64
