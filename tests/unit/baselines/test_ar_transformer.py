"""The raster transformer and its training objective."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from nvgbench_baselines.ar.blocks import Placement, rotary_angles
from nvgbench_baselines.ar.blocks import rotate as rotate_by
from nvgbench_baselines.ar.config import ArModelConfig

from nvgbench.types import TokenBatch


@pytest.mark.parametrize("place", [0, 6, 15])
def test_a_token_is_predicted_from_earlier_ones(small: Callable, place: int) -> None:
    model = small("ar")
    (tokens,) = model.tokens(1).indices
    changed = tokens.clone()
    changed[:, place] = (changed[:, place] + 1) % 24
    with torch.no_grad():
        before, after = (model.generator(torch.tensor([2]), values) for values in (tokens, changed))
    moved = (before != after).any(dim=-1)[0]
    assert not moved[: place + 1].any()
    assert moved[place + 1 :].all()


def test_angles() -> None:
    angles = rotary_angles((2, 3), 8, 10000.0)
    assert angles.shape == (6, 4)
    assert bool((angles[0] == 0).all())  # the class token
    assert bool((angles[1] == 0).all())  # row 0, column 0
    expected = torch.tensor([1.0, 0.01, 1.0, 0.01])  # row 1, column 1
    torch.testing.assert_close(angles[5], expected)
    torch.testing.assert_close(angles[3], torch.tensor([0.0, 0.0, 2.0, 0.02]))


def rotate(x: torch.Tensor, angles: torch.Tensor) -> torch.Tensor:
    return rotate_by(x, Placement(angles.cos(), angles.sin()))


def test_rotation_keeps_lengths_and_depends_on_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.randn(1, 1, 1, 8, generator=generator) for _ in range(2))
    turns = torch.tensor([[0.3, 1.0, -2.0, 0.5]])
    torch.testing.assert_close(rotate(query, turns).norm(), query.norm())
    product = (rotate(query, 3 * turns) * rotate(key, 2 * turns)).sum()
    torch.testing.assert_close(product, (rotate(query, turns) * key).sum())
    assert rotate(query.bfloat16(), turns).dtype == torch.bfloat16


@pytest.mark.parametrize(("depth", "heads", "hidden"), [(12, 12, 2048), (24, 16, 2816), (36, 20, 3584)])
def test_hidden_sizes_of_the_published_models(depth: int, heads: int, hidden: int) -> None:
    assert ArModelConfig(depth=depth, heads=heads).hidden == hidden


def test_objective_starts_at_chance_and_learns(small: Callable) -> None:
    model = small("ar")
    objective = model.family.objective(model.config, model.tokenizer, model.generator)
    batch = TokenBatch(model.tokens(), torch.tensor([1, 4]))

    def loss() -> torch.Tensor:
        ((name, value, scalars),) = objective.losses(batch, torch.Generator().manual_seed(5), 0)
        assert name == "generator"
        assert set(scalars) == {"token_accuracy"}
        return value

    model.generator._initialise()
    assert float(loss().detach()) == pytest.approx(math.log(24), rel=1e-6)
    optimizer = torch.optim.Adam(model.generator.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    assert float(loss().detach()) < 0.5 * math.log(24)
