"""Sampling in raster order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from nvgbench_baselines.ar.config import ArSamplingConfig
from nvgbench_baselines.ar.sampler import sample

from nvgbench.errors import InputError
from nvgbench.sampling.noise import SeededNoise
from nvgbench.types import SampleRequest

LABELS = torch.tensor([0, 3, 4])
SEEDS = torch.tensor([11, 12, 13])


def tokens(model: Any, labels: torch.Tensor = LABELS, seeds: torch.Tensor = SEEDS, **settings: Any) -> torch.Tensor:
    return sample(model.generator, labels, ArSamplingConfig(**settings), SeededNoise(seeds).uniform(16))


def test_cached_sampling_equals_full_passes(small: Callable) -> None:
    model = small("ar")
    drawn = tokens(model, guidance=1.0, top_k=1)
    with torch.no_grad():
        assert torch.equal(model.generator(LABELS, drawn).argmax(dim=-1), drawn)


def test_guided_sampling_equals_full_passes(small: Callable) -> None:
    model = small("ar")
    drawn = tokens(model, guidance=2.5, top_k=1)
    with torch.no_grad():
        conditional, unconditional = (model.generator(labels, drawn) for labels in (LABELS, torch.full_like(LABELS, 5)))
    assert torch.equal((unconditional + 2.5 * (conditional - unconditional)).argmax(dim=-1), drawn)


def test_an_image_does_not_depend_on_its_neighbours(small: Callable) -> None:
    model = small("ar")
    together = tokens(model)
    alone = torch.cat([tokens(model, LABELS[i : i + 1], SEEDS[i : i + 1]) for i in range(3)])
    assert torch.equal(together, alone)
    assert not torch.equal(together, tokens(model, seeds=SEEDS + 1))


def test_guidance_one_ignores_the_unconditional_and_zero_the_class(small: Callable) -> None:
    model = small("ar")
    other = torch.tensor([1, 1, 1])
    assert torch.equal(tokens(model, guidance=0.0), tokens(model, other, guidance=0.0))
    assert not torch.equal(tokens(model, guidance=1.0), tokens(model, other, guidance=1.0))
    before = tokens(model, guidance=1.0), tokens(model, guidance=2.0)
    with torch.no_grad():
        model.generator.class_embedding.weight[-1] += 5.0
    assert torch.equal(tokens(model, guidance=1.0), before[0])
    assert not torch.equal(tokens(model, guidance=2.0), before[1])


def test_images_and_trace(small: Callable) -> None:
    model = small("ar")
    request = SampleRequest(labels_B=LABELS, seeds_B=SEEDS, trace=True)
    result = model.images().generate(request)
    assert result.images_B3HW.dtype == torch.uint8
    assert result.images_B3HW.shape == (3, 3, 16, 16)
    assert result.trace is not None
    assert [stage.tokens for stage in result.trace] == [4, 4, 4, 4]
    assert torch.equal(result.trace[-1].canvas_B3HW, result.images_B3HW)
    assert not torch.equal(result.trace[0].canvas_B3HW, result.trace[1].canvas_B3HW)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (SampleRequest(labels_B=torch.tensor([6]), seeds_B=torch.tensor([1])), "label 6 is not a class"),
        (SampleRequest(labels_B=LABELS, seeds_B=torch.tensor([1])), "one seed per label"),
        (SampleRequest(labels_B=LABELS, seeds_B=SEEDS, settings={"topk": 3}), "did you mean 'top_k'"),
    ],
)
def test_wrong_requests_are_refused(small: Callable, wrong: SampleRequest, message: str) -> None:
    with pytest.raises(InputError, match=message):
        small("ar").images().generate(wrong)
