"""Filters and the inverse-CDF draw, by their definitions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvgbench.errors import InputError
from nvgbench.sampling.filters import choose_tokens, top_k_filter, top_p_filter


def test_top_k_keeps_ties() -> None:
    logits = torch.tensor([1.0, 3.0, 2.0, 2.0, 0.0])
    assert torch.isfinite(top_k_filter(logits, 2)).tolist() == [False, True, True, True, False]
    assert top_k_filter(logits, 0) is logits
    assert top_k_filter(logits, 9) is logits


def test_top_p_keeps_the_smallest_sufficient_set() -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    assert torch.isfinite(top_p_filter(logits, 0.6)).tolist() == [False, False, True, True]
    assert torch.isfinite(top_p_filter(logits, 0.75)).tolist() == [False, True, True, True]
    assert torch.isfinite(top_p_filter(logits, 1e-6)).tolist() == [False, False, False, True]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    k=st.integers(0, 12),
    p=st.floats(0.05, 1.0),
    temperature=st.floats(0.2, 3.0),
)
def test_draws_are_kept_tokens_and_do_not_depend_on_the_batch(seed: int, k: int, p: float, temperature: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 5, 12, generator=generator) * 3
    uniforms = torch.rand(3, 5, generator=generator)
    tokens = choose_tokens(logits, uniforms, temperature=temperature, top_k=k, top_p=p)
    if k != 1:
        kept = top_p_filter(top_k_filter(logits / temperature, k), p)
        assert torch.isfinite(kept.gather(-1, tokens[..., None])).all()
    for i in range(3):
        alone = choose_tokens(logits[i : i + 1], uniforms[i : i + 1], temperature=temperature, top_k=k, top_p=p)
        assert torch.equal(alone, tokens[i : i + 1])


def test_draws_follow_the_distribution() -> None:
    probabilities = torch.tensor([0.5, 0.0, 0.2, 0.3])
    uniforms = (torch.arange(1000) + 0.5)[None] / 1000
    tokens = choose_tokens(probabilities.log().expand(1, 1000, 4), uniforms)
    assert torch.bincount(tokens[0], minlength=4).tolist() == [500, 0, 200, 300]


def test_the_ends_of_the_unit_interval() -> None:
    logits = torch.tensor([[[-torch.inf, 0.0, 0.0, -torch.inf]]])
    largest = torch.tensor([[1 - 2**-24]])
    assert choose_tokens(logits, torch.zeros(1, 1)).item() == 1
    assert choose_tokens(logits, largest).item() == 2


def test_top_k_of_one_is_argmax() -> None:
    logits = torch.randn(4, 6, 9, generator=torch.Generator().manual_seed(0))
    tokens = choose_tokens(logits, torch.full((4, 6), 0.999), temperature=9.0, top_k=1, top_p=0.01)
    assert torch.equal(tokens, logits.argmax(-1))


@pytest.mark.parametrize("bad", [{"temperature": 0.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}])
def test_settings_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError):
        choose_tokens(torch.zeros(1, 1, 4), torch.zeros(1, 1), **bad)
