"""What the image generators of both baselines share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nvgbench.interfaces import TokenGenerator
from nvgbench.types import SampleRequest, SampleResult

FAMILIES = ["var", "ar"]
REQUEST = SampleRequest(labels_B=torch.arange(5), seeds_B=torch.arange(5) + 3)


@pytest.mark.parametrize("family", FAMILIES)
def test_batches_that_do_not_fit_are_split(small: Callable, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = small(family).images()
    whole, drawn = generator.generate(REQUEST), []
    images = generator._images

    def limited(settings: Any, labels_B: Tensor, seeds_B: Tensor, *, trace: bool) -> SampleResult:
        drawn.append(len(labels_B))
        if len(labels_B) > 2:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return images(settings, labels_B, seeds_B, trace=trace)

    monkeypatch.setattr(generator, "_images", limited)
    with pytest.warns(UserWarning, match="drawing 2 at a time"):
        split = generator.generate(REQUEST)
    assert drawn == [5, 2, 2, 1]
    assert torch.equal(split.images_B3HW, whole.images_B3HW)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_those_of_the_images(small: Callable, family: str) -> None:
    model = small(family)
    generator = model.images()
    assert isinstance(generator, TokenGenerator)
    with torch.no_grad():
        decoded = model.tokenizer.decode(generator.tokens(REQUEST))
    images = generator.generate(REQUEST).images_B3HW
    # The canvas is summed in another order: a pixel may be rounded to its neighbour.
    assert ((decoded + 1) * 127.5 - images).abs().max() < 0.51


@pytest.mark.parametrize("family", FAMILIES)
def test_bf16_is_part_of_the_provenance(small: Callable, family: str) -> None:
    assert "precision" not in small(family).images().spec.provenance
    half = small(family, sampling={"precision": "bf16"}).images()
    assert half.spec.provenance["precision"] == "bf16"


@pytest.mark.parametrize("family", FAMILIES)
def test_without_classes_there_is_no_second_pass(small: Callable, family: str) -> None:
    model = small(family)
    generator, rows = model.images(), []
    model.generator.blocks[0].register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    generator.tokens(SampleRequest(labels_B=torch.full((3,), 5), seeds_B=torch.arange(3)))
    assert set(rows) == {3}
    rows.clear()
    generator.tokens(SampleRequest(labels_B=torch.tensor([5, 1, 5]), seeds_B=torch.arange(3)))
    assert set(rows) == {6}
