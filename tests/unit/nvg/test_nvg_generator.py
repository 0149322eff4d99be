"""Sizes, initial weights, and dependence on the inputs."""

from __future__ import annotations

import json

import pytest
import torch

from nvgbench.errors import InputError
from nvgbench.nvg.checkpoint import (
    load_published_state,
    to_published_key,
    to_published_state,
)
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.generator import NvgGenerator
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure import structure_embedding
from nvgbench.nvg.structure_flow.objective import FlowInputs
from nvgbench.nvg.verification import FIXTURES
from tests.helpers.tiny_nvg import tiny

LAYOUT = StageLayout((4, 4))


def _published_layout(depth: int) -> dict[str, list[int]]:
    entry = json.loads((FIXTURES / "nvg_state_dict_layouts.json").read_text())["generators"][f"d{depth}"]
    blocks = {key.format(i=i): shape for i in range(depth) for key, shape in entry["block_keys"].items()}
    return {**entry["single_keys"], **blocks}


@pytest.mark.parametrize(("depth", "content", "structure"), [(16, 255.18, 64.37), (20, 496.59, 124.97), (24, 856.26, 215.18)])
def test_published_sizes_and_layouts(depth: int, content: float, structure: float) -> None:
    with torch.device("meta"):
        layout = StageLayout((16, 16))
        model = NvgGenerator(NvgModelConfig(depth=depth), layout, channels=32, codebook_size=4096, num_classes=1000)
    counted = {name: sum(weight.numel() for weight in part.parameters()) for name, part in model.named_children()}
    # The published counts leave out the learned first canvas.
    assert round((counted["content"] - model.content.start_1LC.numel()) / 1e6, 2) == content
    assert round(counted["structure"] / 1e6, 2) == structure
    published = {key: shape for key, shape in _published_layout(depth).items() if not key.startswith(("rope_ids", "projector"))}
    assert {key: list(value.shape) for key, value in to_published_state(model.state_dict()).items()} == published


def test_published_keys_are_unique() -> None:
    ours = list(tiny().state_dict())
    assert len({to_published_key(key) for key in ours}) == len(ours)
    assert to_published_key("rope_ids") is None
    assert to_published_key("content.blocks.x.linear_in.weight") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("content_embed.weight"), r"missing: content_embed\.weight;"),
        (
            lambda state: state.update({"content_blocks.0.linear3.bias": torch.zeros(1)}),
            r"unexpected: content_blocks\.0\.linear3\.bias",
        ),
        (
            lambda state: state.update({"content_embed.weight": torch.zeros(2, 2)}),
            r"of another shape: content_embed\.weight \[2, 2\] instead of",
        ),
    ],
)
def test_other_weights_are_refused(change: object, words: str) -> None:
    state = to_published_state(tiny().state_dict())
    change(state)  # type: ignore[operator]
    with pytest.raises(InputError, match=words):
        load_published_state(tiny(), state)


def test_initial_values() -> None:
    model = tiny(depth=4, content_heads=8)
    assert all((value == 0).all() for name, value in model.named_parameters() if name.endswith(".bias"))
    weight = model.content.blocks[0].modulation.linear.weight
    limit = (6 / sum(weight.shape)) ** 0.5
    assert weight.abs().max() <= limit
    assert weight.abs().max() > 0.9 * limit
    assert 0.015 < model.content.class_embed.weight.std() < 0.025
    assert model.content.class_embed.num_embeddings == 4
    assert 0.7 < model.content.start_1LC.std() < 1.3


def _content_inputs(stage: int) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(stage)
    structure_BL = torch.stack([torch.randperm(16, generator=generator) for _ in range(2)])
    se = structure_embedding(LAYOUT.coarser(structure_BL, 4, stage), stage, 4)
    return torch.randn(2, 16, 6, generator=generator), se, torch.full((2,), stage), torch.tensor([0, 3])


def test_the_first_stage_ignores_the_canvas_and_later_ones_scale_it() -> None:
    model = tiny().content
    canvas, se, stage, labels = _content_inputs(0)
    assert torch.equal(model(canvas, se, stage, labels), model(canvas + 5, se, stage, labels))
    canvas, se, stage, labels = _content_inputs(2)
    plain = model(canvas, se, stage, labels)
    model.scale_factors[2] = 4.0
    torch.testing.assert_close(model(canvas / 4, se, stage, labels), plain)
    model.scale_factors[-1] = 2.0
    torch.testing.assert_close(model(canvas / 4, se, stage, labels), plain / 2)


@pytest.mark.parametrize("part", ["content", "structure"])
def test_class_stage_and_structure_matter(part: str) -> None:
    model = tiny()

    def run(canvas: torch.Tensor, se: torch.Tensor, stage: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        if part == "content":
            return model.content(canvas, se, stage, labels)
        return model.structure(torch.ones(2, 16, 4), torch.full((2,), 0.3), canvas, se, stage, labels)

    canvas, se, stage, labels = _content_inputs(2)
    base = run(canvas, se, stage, labels)
    assert not torch.allclose(base, run(canvas, se, stage - 1, labels))
    assert not torch.allclose(base, run(canvas, se, stage, labels.flip(0)))
    assert not torch.allclose(base, run(canvas, se.flip(1), stage, labels))
    model.content.rope.structure_rope = model.structure.rope.structure_rope = False
    assert torch.equal(run(canvas, se, stage, labels), run(canvas, se.flip(1), stage, labels))


def test_noise_on_the_canvas() -> None:
    """Of unit variance are the variance-preserving mixture, and the canvas without the additive noise; stage 0 has none."""
    canvas, noise = torch.randn(2, 1000, 6), torch.randn(2, 1000, 6)
    stage = torch.tensor([1, 4])
    for kind, variances in (("additive-noise", [1.25, 1 + 0.125**2]), ("vp-noise", [1.0, 1.0])):
        content = tiny(canvas_input=kind).content
        # 6,000 numbers: standard error below 0.02.
        assert content._noised(canvas, noise, stage).var(dim=(1, 2)).tolist() == pytest.approx(variances, abs=0.1)
        canvas_BLC, se, _, labels = _content_inputs(2)
        with torch.no_grad():
            starts = [content(canvas_BLC, se, torch.zeros(2).long(), labels, noise[:, :16] * scale) for scale in (0, 1)]
            later = [content(canvas_BLC, se, torch.ones(2).long(), labels, noise[:, :16] * scale) for scale in (0, 1)]
        assert torch.equal(*starts)
        assert not torch.allclose(*later)


def test_a_model_of_the_next_content_adds_it_to_the_canvas() -> None:
    canvas, se, stage, labels = _content_inputs(2)
    with torch.no_grad():
        whole, added = (tiny(content_target=t).content(canvas, se, stage, labels) for t in ("final-canvas", "next-content"))
    torch.testing.assert_close(added - canvas, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("group_size", [4, (4, 2, 2)])
def test_a_batch_of_all_stages_equals_single_stages(group_size: int | tuple[int, ...]) -> None:
    model = tiny(StageLayout((4, 4), group_size))
    layout = model.layout
    generator = torch.Generator().manual_seed(0)
    structure_BL = torch.stack([torch.randperm(16, generator=generator) for _ in range(2)])
    canvas = torch.randn(2, layout.stages, 16, 6, generator=generator)
    flows = layout.structure_stages
    z, t = torch.randn(2, flows, 16, 4, generator=generator), torch.rand(2, flows, generator=generator)
    classes = torch.tensor([1, 2])
    noised = FlowInputs(z, t, z, z)
    output = model(canvas, structure_BL, lambda conditions, own: noised.evaluate(conditions.bind(own)), classes)
    assert output.logits_BNV.shape == (2, sum(layout.tokens), 20)
    se = model.stage_embeddings(structure_BL)
    for stage in range(layout.stages):
        alone = model.content(canvas[:, stage], se[:, stage], torch.full((2,), stage), classes)
        torch.testing.assert_close(output.final_BSLC[:, stage], alone, rtol=1e-4, atol=1e-5)
        residual = alone - canvas[:, stage]
        at = layout.coarser(structure_BL, layout.last, stage)
        for cluster in range(layout.tokens[stage]):
            mean = torch.stack([residual[i][at[i] == cluster].mean(0) for i in range(2)])
            row = sum(layout.tokens[:stage]) + cluster
            torch.testing.assert_close(output.logits_BNV[:, row], model.content.token_logits(mean), rtol=1e-4, atol=1e-4)
    velocity = model.structure.velocity(z[:, 0], t[:, 0], canvas[:, 1], se[:, 0], torch.zeros(2).long(), classes)
    torch.testing.assert_close(output.structure[:, 0], velocity, rtol=1e-4, atol=1e-5)


def test_a_head_without_room_is_refused() -> None:
    with pytest.raises(InputError, match="smallest head size that fits this grid is 20"):
        tiny(head_size=16)
