"""A generator whose structure maps are given: what `nvgbench sample --structure-…` draws from."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import torch

from nvgbench.data.crop import centre_crop
from nvgbench.data.decode import read_image
from nvgbench.data.images import to_float
from nvgbench.errors import InputError
from nvgbench.interfaces import ImageGenerator
from nvgbench.nvg.image_generator import NvgImageGenerator
from nvgbench.nvg.sampler import GivenStructure
from nvgbench.nvg.structure_control import read_mask, structure_from_image, structure_from_mask, structure_from_trace
from nvgbench.types import SampleRequest, SampleResult


class GuidedGenerator:
    """Implements `nvgbench.interfaces.ImageGenerator`: every image gets the same first structure maps.

    Args:
        base: the model.
        structure: labels ``[1, L]`` of the stage up to which the structure is given.
    """

    def __init__(self, base: NvgImageGenerator, structure: GivenStructure) -> None:
        digest = hashlib.sha256(structure.labels_BL.cpu().numpy().tobytes()).hexdigest()[:16]
        given = {"structure": digest, "structure_stage": structure.stage}
        self.spec = dataclasses.replace(base.spec, provenance={**base.spec.provenance, **given})
        self._base, self._structure = base, structure

    def generate(self, request: SampleRequest) -> SampleResult:
        return self._base.generate(request, structure=self._structure)


def guide(
    generator: ImageGenerator,
    *,
    image: Path | None = None,
    mask: Path | None = None,
    sample: tuple[int, int] | None = None,
    stage: int | None = None,
) -> GuidedGenerator:
    """Give ``generator`` the structure of an image, of a mask, or of the first stages of a sample of its own.

    Args:
        generator: an NVG model.
        image: image file; cropped and resized like training images.
        mask: image file whose colours or grey values are regions.
        sample: (label, seed) of a sample.
        stage: last stage that is given; all stages of an image, as many as a mask has regions for, half of a sample's.

    Raises:
        InputError: not exactly one source, a file that cannot be read, a model without structure maps, no such stage.
    """
    if sum(source is not None for source in (image, mask, sample)) != 1:
        raise InputError("give the structure from exactly one of: an image, a mask, a sample")
    if not isinstance(generator, NvgImageGenerator):
        raise InputError(f"{generator.spec.name} is a {generator.spec.family} model and has no structure maps; use an NVG run")
    layout = generator.generator.layout
    if image is not None:
        pixels = np.array(centre_crop(read_image(image), generator.spec.image_size))
        images_B3HW = to_float(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        device = generator.generator.content.scale_factors.device
        return GuidedGenerator(generator, structure_from_image(generator.tokenizer, images_B3HW.to(device), layout, stage))
    if mask is not None:
        return GuidedGenerator(generator, structure_from_mask(read_mask(mask), layout, stage))
    assert sample is not None
    request = SampleRequest(labels_B=torch.tensor([sample[0]]), seeds_B=torch.tensor([sample[1]]), trace=True)
    trace = generator.generate(request).trace
    assert trace is not None
    return GuidedGenerator(generator, structure_from_trace(trace, layout, layout.last // 2 if stage is None else stage))
