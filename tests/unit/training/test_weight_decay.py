"""Which parameters the weight decay pulls on, and that it does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nvgbench.config.schema import PhaseConfig
from nvgbench.training.optimizer import ModuleOptimizer, weight_decay_groups
from nvgbench.training.parallel import Parallel

EXEMPT = ("position", "rows.*.offset")


class Part(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.ones(3, 3))
        self.linear = nn.Linear(3, 3)
        self.rows = nn.ModuleList([nn.ParameterDict({"offset": torch.ones(2, 2), "kept": torch.ones(2, 2)})])
        self.frozen = nn.Parameter(torch.ones(2, 2), requires_grad=False)

    def forward(self) -> Tensor:
        return sum((parameter.sum() * 0 for parameter in self.parameters()), torch.zeros(()))


@pytest.mark.parametrize("depth", [0, 1])
def test_vectors_and_named_parameters_are_exempt_wherever_the_module_sits(depth: int) -> None:
    module: nn.Module = Part()
    for _ in range(depth):
        module = nn.ModuleDict({"inner": module})
    prefix = "inner." * depth
    decayed, exempt = weight_decay_groups(module, [f"{prefix}{name}" for name in EXEMPT])
    assert set(decayed) == {f"{prefix}{name}" for name in ("linear.weight", "rows.0.kept")}
    assert set(exempt) == {f"{prefix}{name}" for name in ("position", "linear.bias", "rows.0.offset")}


def test_the_optimizer_honours_the_groups_and_the_decay_of_the_step() -> None:
    module = Part()
    phase = PhaseConfig(steps=2, batch_size=1, learning_rate=1.0, weight_decay=0.5)
    optimizer = ModuleOptimizer(Parallel(module), phase, EXEMPT)
    optimizer.backward(module())
    optimizer.step(0.1, 0.2)
    # AdamW without gradient: only the decay moves a weight, by rate x decay.
    assert torch.allclose(module.rows[0]["kept"], torch.tensor(1 - 0.1 * 0.2))
    assert torch.equal(module.position, torch.ones(3, 3))
    assert torch.equal(module.rows[0]["offset"], torch.ones(2, 2))
