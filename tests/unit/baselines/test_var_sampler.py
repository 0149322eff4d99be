"""Sampling from VAR."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from nvgbench_baselines.var.config import VarSamplingConfig
from nvgbench_baselines.var.sampler import SeededDraws, sample

from nvgbench.errors import InputError
from nvgbench.sampling.noise import SeededNoise
from nvgbench.types import SampleRequest

LABELS = torch.tensor([0, 3, 4])
SEEDS = torch.tensor([11, 12, 13])


def tokens(model: Any, labels: torch.Tensor = LABELS, seeds: torch.Tensor = SEEDS, **settings: Any) -> torch.Tensor:
    draws = SeededDraws(SeededNoise(seeds))
    config = VarSamplingConfig(**settings)
    return torch.cat(sample(model.generator, model.tokenizer.quantizer, labels, config, draws).tokens.indices, dim=1)


def request(settings: Mapping[str, Any] | None = None, **overrides: Any) -> SampleRequest:
    return SampleRequest(**{"labels_B": LABELS, "seeds_B": SEEDS, "settings": settings or {}, **overrides})


def test_cached_sampling_equals_full_passes(small: Callable) -> None:
    model = small("var")
    drawn = tokens(model, guidance=0.0, top_k=1)
    lengths = model.tokenizer.stage_tokens
    sequence = type(model.tokens())(drawn.split(lengths, dim=1))
    with torch.no_grad():
        logits = model.generator(LABELS, model.tokenizer.quantizer.teacher_inputs(sequence))
    assert torch.equal(logits.argmax(dim=-1), drawn)


@pytest.mark.parametrize("more_smooth", [False, True])
def test_an_image_does_not_depend_on_its_neighbours(small: Callable, more_smooth: bool) -> None:
    model = small("var")
    together = tokens(model, more_smooth=more_smooth)
    alone = torch.cat([tokens(model, LABELS[i : i + 1], SEEDS[i : i + 1], more_smooth=more_smooth) for i in range(3)])
    assert torch.equal(together, alone)
    assert not torch.equal(together, tokens(model, seeds=SEEDS + 1, more_smooth=more_smooth))


def test_guidance_zero_leaves_the_unconditional_pass_out(small: Callable) -> None:
    model = small("var")
    before = {guidance: tokens(model, guidance=guidance) for guidance in (0.0, 3.0)}
    with torch.no_grad():
        model.generator.class_embedding.weight[-1] += 5.0
    assert torch.equal(tokens(model, guidance=0.0), before[0.0])
    after = tokens(model, guidance=3.0)
    assert not torch.equal(after, before[3.0])
    # Guidance grows from nothing at the first scale.
    assert torch.equal(after[:, :1], before[3.0][:, :1])
    assert torch.equal(before[0.0][:, :1], before[3.0][:, :1])


def test_images_and_trace(small: Callable) -> None:
    model = small("var")
    result = model.images().generate(request(trace=True))
    assert result.images_B3HW.dtype == torch.uint8
    assert result.images_B3HW.shape == (3, 3, 16, 16)
    assert result.trace is not None
    assert [stage.tokens for stage in result.trace] == [1, 4, 16]
    assert torch.equal(result.trace[-1].canvas_B3HW, result.images_B3HW)
    assert model.images().generate(request()).trace is None
    assert torch.equal(model.images().generate(request()).images_B3HW, result.images_B3HW)


def test_smoothing_changes_the_picture_and_keeps_it_finite(small: Callable) -> None:
    model = small("var")
    draws = SeededDraws(SeededNoise(SEEDS))
    settings = VarSamplingConfig(more_smooth=True, top_k=3)
    canvas = sample(model.generator, model.tokenizer.quantizer, LABELS, settings, draws).canvases[-1]
    assert torch.isfinite(canvas).all()
    plain = model.images().generate(request()).images_B3HW
    assert not torch.equal(model.images().generate(request({"more_smooth": True})).images_B3HW, plain)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (request(labels_B=torch.tensor([0, 1, 6])), "label 6 is not a class"),
        (request(labels_B=torch.tensor([0, 1, -1])), "label -1 is not a class"),
        (request(labels_B=torch.tensor([0.0, 1.0, 2.0])), "integer tensor"),
        (request(seeds_B=torch.tensor([1, 2])), "one seed per label"),
        (request({"guidence": 2.0}), "did you mean 'guidance'"),
        (request({"top_p": 0.0}), "top_p"),
        (request({"top_k": "many"}), "top_k"),
    ],
)
def test_wrong_requests_are_refused(small: Callable, wrong: SampleRequest, message: str) -> None:
    with pytest.raises(InputError, match=message):
        small("var").images().generate(wrong)
