"""The sampler: properties of Algorithm 2, and independence of images in a batch."""

from __future__ import annotations

import pytest
import torch

from nvgbench.nvg.config import GranularityConfig, NvgSamplingConfig
from nvgbench.nvg.generator import NvgGenerator
from nvgbench.nvg.quantizer import GranularityQuantizer
from nvgbench.nvg.sampler import GivenStructure, NvgSampler, Sample
from nvgbench.nvg.stages import StageLayout
from nvgbench.sampling.noise import SeededNoise
from tests.helpers.tiny_nvg import tiny


def draw(
    model: NvgGenerator, settings: NvgSamplingConfig, seeds: list[int], classes: list[int], given: GivenStructure | None = None
) -> Sample:
    torch.manual_seed(0)
    group = GranularityConfig(group_size=model.layout.group_size)
    quantizer = GranularityQuantizer(group, 20, 6, model.layout.grid)
    torch.nn.init.normal_(quantizer.codebook.weight)
    noise = SeededNoise(seeds)
    start = noise.normal(model.layout.positions, model.layout.channels)
    canvas_noise = noise.normal(model.layout.positions, 6) if model.content.takes_noise else None
    with torch.no_grad():
        sampler = NvgSampler(model, quantizer, settings)
        sample = sampler.sample(
            torch.tensor(classes), start, noise.uniform, canvas_noise_BLC=canvas_noise, given=given, keep_stages=True
        )
        expected = quantizer.canvases(sample.tokens)[:, -1].flatten(2).transpose(1, 2)
    torch.testing.assert_close(sample.canvas_BLC, expected, rtol=1e-4, atol=1e-5)
    return sample


@pytest.mark.parametrize("options", [{}, {"gumbel": True}, {"flow_schedule": "uniform", "temperature": 2.0}])
@pytest.mark.parametrize(
    "layout", [StageLayout((4, 4)), StageLayout((4, 4), 4), StageLayout((2, 8)), StageLayout((4, 4), (2, 4, 2))]
)
def test_structure_maps_are_balanced_and_nested(layout: StageLayout, options: dict[str, object]) -> None:
    settings = NvgSamplingConfig(flow_steps=3, **options)  # type: ignore[arg-type]
    sample = draw(tiny(layout), settings, [1, 2, 3], [0, 1, 2])
    assert [index.shape[1] for index in sample.tokens.indices] == list(layout.tokens)
    for stage, state in enumerate(sample.stages):
        counts = torch.stack([row.bincount(minlength=layout.tokens[stage]) for row in state.structure_BL])
        assert (counts == layout.positions // layout.tokens[stage]).all()
        assert torch.equal(layout.coarser(sample.tokens.structure_BL, layout.last, stage), state.structure_BL)


@pytest.mark.parametrize("options", [{}, {"structure_input": "pure-noise"}, {"canvas_input": "additive-noise"}])
def test_an_image_is_the_same_in_every_batch(options: dict[str, object]) -> None:
    model = tiny(**options)
    settings = NvgSamplingConfig(flow_steps=2, gumbel=True)
    whole = draw(model, settings, [7, 8, 9, 10], [0, 1, 2, 0])
    for rows in ([2], [3, 1]):
        part = draw(model, settings, [7 + row for row in rows], [[0, 1, 2, 0][row] for row in rows])
        assert torch.equal(part.tokens.structure_BL, whole.tokens.structure_BL[rows])
        assert all(torch.equal(a, b[rows]) for a, b in zip(part.tokens.indices, whole.tokens.indices, strict=True))


@pytest.mark.parametrize(
    "change",
    [
        {"content_guidance": (1.0, 9.0)},
        {"structure_guidance": (8.0, 8.0)},
        {"top_k": 2},
        {"top_p": (0.3, 0.3)},
        {"temperature": 3.0},
        {"flow_steps": 1},
        {"flow_schedule": "uniform"},
        {"gumbel": True},
    ],
)
def test_every_setting_does_something(change: dict[str, object]) -> None:
    model, seeds, classes = tiny(), list(range(12)), [0, 1, 2] * 4
    for part in (model.content.class_embed, model.structure.class_embed):
        torch.nn.init.normal_(part.weight)  # at its initial size the class has little effect
    one = draw(model, NvgSamplingConfig(flow_steps=3), seeds, classes)
    other = draw(model, NvgSamplingConfig(**{"flow_steps": 3, **change}), seeds, classes)  # type: ignore[arg-type]
    same_structure = torch.equal(one.tokens.structure_BL, other.tokens.structure_BL)
    same_content = all(torch.equal(a, b) for a, b in zip(one.tokens.indices, other.tokens.indices, strict=True))
    assert not (same_structure and same_content)


def test_guidance_extrapolates_from_the_unconditional_branch() -> None:
    model = tiny()
    torch.nn.init.normal_(model.content.class_embed.weight)
    quantizer = GranularityQuantizer(GranularityConfig(), 20, 6, (4, 4))

    def logits(scale: float, label: int) -> torch.Tensor:
        sampler = NvgSampler(model, quantizer, NvgSamplingConfig(content_guidance=(scale, scale)))
        canvas = torch.randn(1, 16, 6, generator=torch.Generator().manual_seed(0))
        structure = (torch.arange(16) >> 2)[None]
        with torch.no_grad():
            return sampler.content_logits(canvas, structure, 2, torch.tensor([label]))[0]

    conditional, unconditional = logits(1.0, 0), logits(1.0, model.num_classes)
    torch.testing.assert_close(logits(3.0, 0), unconditional + 3 * (conditional - unconditional), rtol=1e-4, atol=1e-4)


def test_given_structure_is_used_and_the_rest_is_sampled() -> None:
    model = tiny()
    given = GivenStructure(torch.stack([torch.arange(16).roll(shift) % 4 for shift in (0, 1)]), 2)
    one = draw(model, NvgSamplingConfig(flow_steps=2), [1, 2], [0, 0], given)
    other = draw(model, NvgSamplingConfig(flow_steps=2), [3, 4], [0, 0], given)
    for sample in (one, other):
        assert torch.equal(sample.stages[2].structure_BL, given.structure_BL)
        assert torch.equal(sample.stages[1].structure_BL, given.structure_BL >> 1)
    assert not torch.equal(one.stages[3].structure_BL, other.stages[3].structure_BL)
