"""VAR's transformer and its training objective."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from nvgbench_baselines.var.blocks import Kept, drop_path
from nvgbench_baselines.var.config import VarModelConfig
from nvgbench_baselines.var.transformer import VarTransformer

from nvgbench.types import TokenBatch

STARTS = (0, 1, 5, 21)  # of the scales 1, 2, 4


@pytest.mark.parametrize("stage", [1, 2])
def test_a_scale_attends_to_itself_and_earlier_scales(small: Callable, stage: int) -> None:
    generator = small("var").generator
    inputs = torch.randn(1, 20, 4, generator=torch.Generator().manual_seed(3))
    changed = inputs.clone()
    changed[:, STARTS[stage] - 1] += 1.0  # the first token of the scale
    with torch.no_grad():
        before, after = (generator(torch.tensor([2]), values) for values in (inputs, changed))
    moved = (before != after).any(dim=-1)[0]
    assert not moved[: STARTS[stage]].any()
    assert moved[STARTS[stage] :].all()


def test_class_reaches_every_token(small: Callable) -> None:
    generator = small("var").generator
    inputs = torch.zeros(2, 20, 4)
    with torch.no_grad():
        logits = generator(torch.tensor([0, 5]), inputs)
    assert (logits[0] != logits[1]).any(dim=-1).all()


def test_drop_path_drops_whole_images_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    x = torch.ones(4000, 2, 3)
    dropped = drop_path(x, Kept.draw(x, 0.25))
    assert set(dropped.flatten(1).sum(1).round(decimals=3).tolist()) == {0.0, 8.0}
    # Standard error of the mean of 4,000 draws: 0.009.
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.04)
    assert drop_path(x, None) is x


def test_untrained_model_is_uniform() -> None:
    torch.manual_seed(0)
    model = VarTransformer(VarModelConfig(depth=2), scales=(1, 2, 4), channels=4, codebook_size=24, num_classes=5).eval()
    with torch.no_grad():
        logits = model(torch.tensor([1]), torch.randn(1, 20, 4))
    assert float(logits.log_softmax(-1).max() + math.log(24)) < 0.1


def test_objective_learns_and_repeats(small: Callable) -> None:
    model = small("var")
    objective = model.family.objective(model.config, model.tokenizer, model.generator)
    batch = TokenBatch(model.tokens(), torch.tensor([1, 4]))
    assert list(objective.modules) == ["generator"]

    def step() -> tuple[str, torch.Tensor]:
        ((name, loss, scalars),) = objective.losses(batch, torch.Generator().manual_seed(5), 0)
        assert set(scalars) == {"token_accuracy", "loss_first_scale", "loss_last_scale"}
        return name, loss

    name, first = step()
    assert name == "generator"
    assert torch.equal(first, step()[1])
    optimizer = torch.optim.Adam(model.generator.parameters(), lr=0.02)
    for _ in range(40):
        optimizer.zero_grad()
        step()[1].backward()
        optimizer.step()
    assert float(step()[1].detach()) < 0.5 * float(first.detach())
    assert all(weight.grad is None for weight in model.tokenizer.parameters())
