"""Feature alignment: the loss, its gradients, names and sizes of the projector; no change without it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.nvg.alignment import Projector, alignment_losses
from nvgbench.nvg.checkpoint import load_published_state, to_published_state
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.generator import NvgGenerator
from nvgbench.nvg.objective import NvgObjective, canvases_of
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.verification import FIXTURES
from nvgbench.training.batches import split
from nvgbench.training.optimizer import parameter_counts
from nvgbench.types import TokenBatch, TokenSequence
from tests.helpers.tiny_nvg import tiny

LAYOUT = StageLayout((4, 4))
FEATURES = 5


class FakeTokenizer:
    """Canvases that depend only on the tokens of each image, so that they are the same in every batch."""

    def canvases(self, tokens: TokenSequence) -> Tensor:
        assert tokens.structure_BL is not None
        grid_BHW = tokens.structure_BL.float().unflatten(1, (4, 4)) / 16
        return torch.stack([(grid_BHW[:, None] + stage) * torch.arange(1, 7)[:, None, None] for stage in range(5)], dim=1)


class FakeTarget:
    """The image's own pixels, with two constant channels."""

    features = FEATURES

    def __call__(self, images_B3HW: Tensor) -> Tensor:
        pixels_BLC = torch.nn.functional.avg_pool2d(images_B3HW, 2).flatten(2).transpose(1, 2)
        return torch.cat((pixels_BLC, torch.ones(len(images_B3HW), 16, 2)), dim=-1)


def batch(images: int = 4, with_images: bool = True) -> TokenBatch:
    generator = torch.Generator().manual_seed(1)
    indices = tuple(torch.randint(20, (images, count), generator=generator) for count in LAYOUT.tokens)
    structure_BL = torch.stack([torch.randperm(16, generator=generator) for _ in range(images)])
    classes = torch.randint(3, (images,), generator=generator)
    pictures = torch.rand(images, 3, 8, 8, generator=generator) * 2 - 1
    return TokenBatch(TokenSequence(indices, structure_BL), classes, pictures if with_images else None)


def objective(model: NvgGenerator, target: FakeTarget | None, **options: object) -> NvgObjective:
    config = NvgModelConfig(**{"depth": 3, "head_size": 24, "alignment_block": 2, "label_drop": 0.0, **options})  # type: ignore[arg-type]
    torch.manual_seed(5)
    return NvgObjective(config, FakeTokenizer(), model, target)


def losses(found: NvgObjective, data: TokenBatch, seed: int = 0) -> tuple[Tensor, dict[str, float]]:
    ((_, value, logs),) = list(found.losses(data, torch.Generator().manual_seed(seed), 0))
    return value, {key: float(log) for key, log in logs.items()}


def reference(projected_BSLF: np.ndarray, target_BLF: np.ndarray) -> np.ndarray:
    """From the definition, vector by vector."""
    images, stages, positions, _ = projected_BSLF.shape
    found = np.zeros(stages)
    for stage in range(stages):
        for image in range(images):
            for position in range(positions):
                mine, theirs = projected_BSLF[image, stage, position], target_BLF[image, position]
                found[stage] += 1 - mine @ theirs / (np.sqrt(mine @ mine) * np.sqrt(theirs @ theirs))
    return found / (images * positions)


def test_the_loss_is_one_minus_the_cosine() -> None:
    random = np.random.default_rng(0)
    projected, target = random.normal(size=(2, 3, 4, 5)), random.normal(size=(2, 4, 5))
    found = alignment_losses(torch.from_numpy(projected).float(), torch.from_numpy(target).float())
    np.testing.assert_allclose(found, reference(projected, target), rtol=1e-5)
    same = torch.from_numpy(target).float()[:, None].expand(-1, 3, -1, -1)
    torch.testing.assert_close(alignment_losses(3 * same, same[:, 0]), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(alignment_losses(-same, same[:, 0]), torch.full((3,), 2.0))


def no_structure(*_: object) -> Tensor:
    return torch.zeros(())


def test_the_weighted_term_joins_the_others() -> None:
    model, data, target = tiny(depth=3), batch(), FakeTarget()
    with torch.no_grad():
        value, logs = losses(objective(model, target, alignment_weight=0.25), data)
        before, _ = canvases_of(FakeTokenizer(), data.tokens)
        output = model(before, data.tokens.structure_BL, no_structure, data.labels_B)
    assert output.projected_BSLF.shape == (4, 5, 16, FEATURES)
    expected = reference(output.projected_BSLF.double().numpy(), target(data.images_B3HW).double().numpy()).mean()
    assert logs["alignment"] == pytest.approx(expected, rel=1e-4)
    parts = logs["canvas_mse"] + logs["token_cross_entropy"] + logs["structure_mse"]
    assert value.item() == pytest.approx(parts + 0.25 * expected, rel=1e-5)


def test_gradients_stop_at_the_watched_block() -> None:
    model, data = tiny(depth=3), batch()
    objective(model, FakeTarget())
    seen = []
    model.content.blocks[1].register_forward_hook(lambda block, inputs, output: seen.append(output))
    before, _ = canvases_of(FakeTokenizer(), data.tokens)
    output = model(before, data.tokens.structure_BL, no_structure, data.labels_B)
    # The class token is no position of the image.
    torch.testing.assert_close(output.projected_BSLF.flatten(0, 1), model.projector(seen[0][:, 1:]))
    alignment_losses(output.projected_BSLF, FakeTarget()(data.images_B3HW)).mean().backward()
    touched = {name for name, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
    behind = ("content.blocks.2.", "content.head.", "content.token_head.", "structure.")
    assert touched == {name for name, _ in model.named_parameters() if not name.startswith(behind)}
    assert {f"projector.{layer}.{kind}" for layer in (0, 2, 4) for kind in ("weight", "bias")} < touched


def test_in_training_every_parameter_gets_a_gradient() -> None:
    model = tiny(depth=3)
    losses(objective(model, FakeTarget()), batch())[0].backward()
    assert not [name for name, weight in model.named_parameters() if weight.grad is None or not weight.grad.any()]


def test_without_weight_or_target_nothing_changes() -> None:
    def bits(target: FakeTarget | None, **options: object) -> tuple[bytes, dict[str, bytes], dict[str, float]]:
        model = tiny(depth=3)
        found = objective(model, target, **options)
        assert not found.needs_images
        value, logs = losses(found, batch(with_images=False))
        value.backward()
        grads = {name: weight.grad.numpy().tobytes() for name, weight in model.named_parameters() if weight.grad is not None}
        return value.detach().numpy().tobytes(), grads, logs

    plain = bits(None)
    assert bits(FakeTarget(), alignment_weight=0) == plain
    assert "alignment" not in plain[2]
    assert not [name for name in plain[1] if name.startswith("projector")]


def test_parts_of_a_batch_average_to_the_whole() -> None:
    def gradients(size: int | None) -> tuple[float, dict[str, Tensor]]:
        model = tiny(depth=3)
        found = objective(model, FakeTarget())
        parts = split(batch(), size)
        value = 0.0
        for part in parts:
            loss, logs = losses(found, part)
            (loss / len(parts)).backward()
            value += logs["alignment"] / len(parts)
        # The flow draws other noise for each part, which does not affect the content transformer.
        return value, {name: weight.grad for name, weight in model.named_parameters() if not name.startswith("structure.")}

    whole, parts = gradients(None), gradients(2)
    assert parts[0] == pytest.approx(whole[0], rel=1e-5)
    for name, gradient in whole[1].items():
        torch.testing.assert_close(parts[1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("depth", [16, 20, 24])
def test_projector_has_the_published_names_and_sizes_and_is_counted_apart(depth: int) -> None:
    entry = json.loads((FIXTURES / "nvg_state_dict_layouts.json").read_text())["generators"][f"d{depth}"]
    with torch.device("meta"):
        layout, config = StageLayout((16, 16)), NvgModelConfig(depth=depth)
        model = NvgGenerator(config, layout, channels=32, codebook_size=4096, num_classes=1000)
        plain = parameter_counts({"generator": model})
        model.align(8, 768)
    published = {key: shape for key, shape in entry["single_keys"].items() if key.startswith("projector.")}
    state = to_published_state(model.state_dict())
    assert {key: list(value.shape) for key, value in state.items() if key.startswith("projector.")} == published
    counts = parameter_counts({"generator": model}, NvgObjective.training_only)
    assert counts == {**plain, "projector": entry["parameters"]["repa_projector_not_counted"]}


def test_weights_of_a_projector_are_loaded_or_ignored() -> None:
    aligned, plain = tiny(), tiny()
    aligned.align(1, FEATURES)
    plain.load_state_dict(aligned.state_dict())
    state = to_published_state(aligned.state_dict())
    load_published_state(plain, state)
    assert plain.projector is None
    other = tiny()
    other.align(2, FEATURES)
    load_published_state(other, state)
    assert all(torch.equal(value, aligned.state_dict()[name]) for name, value in other.state_dict().items())
    with pytest.raises(InputError, match=r"missing: projector\.0\.bias"):
        load_published_state(other, to_published_state(plain.state_dict()))
    with pytest.raises(RuntimeError, match="projector"):
        other.load_state_dict(plain.state_dict())


def test_a_projector_starts_like_every_linear_layer() -> None:
    torch.manual_seed(0)
    projector = Projector(24, FEATURES)
    assert [len(layer.bias) for layer in projector if isinstance(layer, torch.nn.Linear)] == [2048, 2048, FEATURES]
    assert all(not value.any() for name, value in projector.named_parameters() if name.endswith("bias"))
    limit = (6 / (24 + 2048)) ** 0.5
    assert 0.9 * limit < projector[0].weight.abs().max() <= limit
