"""The training objective."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.generator import GeneratorOutput, NvgGenerator, StructureTask
from nvgbench.nvg.objective import NvgObjective, measure_scale_factors, stage_losses
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure_flow.flow import StructureFlow
from nvgbench.types import TokenBatch, TokenSequence
from tests.helpers.tiny_nvg import tiny

LAYOUT = StageLayout((4, 4))


class FakeTokenizer:
    """Canvases that grow with the stage: standard deviations 1, 2, 3, 4, 5."""

    def canvases(self, tokens: TokenSequence) -> Tensor:
        generator = torch.Generator().manual_seed(5)
        scale = torch.arange(1.0, 6.0)[None, :, None, None, None]
        return torch.randn(len(tokens), 5, 6, 4, 4, generator=generator) * scale


def batch(images: int = 4) -> TokenBatch:
    generator = torch.Generator().manual_seed(1)
    indices = tuple(torch.randint(20, (images, count), generator=generator) for count in LAYOUT.tokens)
    structure_BL = torch.stack([torch.randperm(16, generator=generator) for _ in range(images)])
    return TokenBatch(TokenSequence(indices, structure_BL), torch.randint(3, (images,), generator=generator))


def loss(
    model: NvgGenerator, seed: int = 0, data: TokenBatch | None = None, **options: object
) -> tuple[Tensor, dict[str, float]]:
    config = NvgModelConfig(depth=2, head_size=24, **options)  # type: ignore[arg-type]
    objective = NvgObjective(config, FakeTokenizer(), model)
    ((name, value, logs),) = list(objective.losses(data or batch(), torch.Generator().manual_seed(seed), 0))
    assert list(objective.modules) == [name]
    return value, {key: float(log) for key, log in logs.items()}


def test_the_loss_is_the_sum_of_its_parts_and_repeats() -> None:
    value, logs = loss(tiny())
    parts = logs["canvas_mse"] + logs["token_cross_entropy"] + logs["structure_mse"]
    assert value.item() == pytest.approx(parts, rel=1e-5)
    assert 0 <= logs["token_accuracy"] <= 1
    assert loss(tiny())[0].item() == value.item()
    assert loss(tiny(), seed=1)[0].item() != value.item()


def test_a_model_of_the_next_content_has_no_loss_on_the_canvas() -> None:
    value, logs = loss(tiny(content_target="next-content"))
    assert value.item() == pytest.approx(logs["token_cross_entropy"] + logs["structure_mse"], rel=1e-5)


@pytest.mark.parametrize("kind", ["additive-noise", "vp-noise"])
def test_noise_on_the_canvas_changes_the_content_only(kind: str) -> None:
    clean, noised = loss(tiny())[1], loss(tiny(canvas_input=kind))[1]
    assert noised["structure_mse"] == pytest.approx(clean["structure_mse"], rel=1e-6)
    assert noised["canvas_mse"] != pytest.approx(clean["canvas_mse"], rel=1e-6)


@pytest.mark.parametrize("options", [{}, {"canvas_input": "vp-noise"}, {"content_target": "next-content"}])
def test_every_parameter_gets_a_gradient(options: dict[str, object]) -> None:
    model = tiny(**options)
    loss(model)[0].backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]


def test_it_can_be_learned() -> None:
    model, data = tiny(), batch()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    before = loss(model, data=data, label_drop=0.0)[1]
    for step in range(60):
        optimizer.zero_grad()
        loss(model, seed=step, data=data, label_drop=0.0)[0].backward()
        optimizer.step()
    after = loss(model, data=data, label_drop=0.0)[1]
    assert after["token_cross_entropy"] < 0.85 * before["token_cross_entropy"]
    assert after["structure_mse"] < 0.8 * before["structure_mse"]
    assert after["token_accuracy"] > 2 * before["token_accuracy"]


class SpyGenerator(torch.nn.Module):
    """Records the labels of its inputs."""

    def __init__(self, model: NvgGenerator) -> None:
        super().__init__()
        self.model = model
        self.labels: list[Tensor] = []

    def forward(
        self, canvas: Tensor, structure: Tensor, task: StructureTask, labels: Tensor, **options: bool
    ) -> GeneratorOutput:
        self.labels.append(labels)
        return self.model(canvas, structure, task, labels, **options)


@pytest.mark.parametrize("label_drop", [0.0, 0.3, 0.95])
def test_labels_are_dropped_at_the_configured_rate(label_drop: float) -> None:
    model, data = tiny(), batch(200)
    objective = NvgObjective(NvgModelConfig(depth=2, label_drop=label_drop), FakeTokenizer(), model)
    spy = SpyGenerator(model)
    objective.modules = {"generator": spy}
    with torch.no_grad():
        list(objective.losses(data, torch.Generator().manual_seed(0), 0))
    (labels,) = spy.labels
    dropped = labels == model.num_classes
    assert torch.equal(labels[~dropped], data.labels_B[~dropped])
    # 200 draws: standard error at most 0.033.
    assert abs(dropped.float().mean() - label_drop) < 0.12


def test_a_perfect_prediction_costs_nothing() -> None:
    model, data = tiny(), batch()
    structure_BL = data.tokens.structure_BL
    flow = model.flow.mix(structure_BL, torch.randn(4, 16, 4), torch.rand(4, 3))
    final = torch.randn(4, 16, 6)
    logits = 50 * torch.nn.functional.one_hot(torch.cat(data.tokens.indices, 1), 20).float()
    velocity = flow.noise_BTLK - flow.data_BLK[:, None]
    output = GeneratorOutput(velocity, final[:, None].expand(-1, 5, -1, -1), logits)
    assert isinstance(model.flow, StructureFlow)
    losses = stage_losses(output, model.flow.velocity_losses(velocity, flow), data.tokens, final)
    assert float(losses.total()) < 1e-6
    assert losses.accuracy_S.tolist() == [1.0] * 5


def test_scale_factors_bring_canvases_to_unit_size() -> None:
    factors = measure_scale_factors(FakeTokenizer(), batch(64).tokens)
    assert factors.shape == (6,)
    assert factors[0] == 1
    # Sixty-four images of 96 values: a standard error below 1 %.
    torch.testing.assert_close(factors[1:], 1 / torch.arange(1.0, 6.0), rtol=0.04, atol=0)
