"""Structure control: the first structure maps are taken from an image, a mask or a sample (paper, Figures 6 and 8).

Content, and the structure of later stages, is generated.

Shape letters: B batch, L positions in raster order, H and W pixels, h and w the latent grid.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nvgbench.data.crop import centre_crop
from nvgbench.data.decode import read_image
from nvgbench.data.images import to_float
from nvgbench.errors import InputError
from nvgbench.interfaces import CodebookTokenizer, ImageGenerator
from nvgbench.nvg.image_generator import NvgImageGenerator
from nvgbench.nvg.sampler import GivenStructure
from nvgbench.nvg.stages import StageLayout
from nvgbench.sampling.capture import GraphCache
from nvgbench.types import SampleRequest, SampleResult, StageTrace, TokenSequence


class ControlledGenerator:
    """An NVG model whose images all get the same first structure maps; implements `nvgbench.interfaces.ImageGenerator`.

    Args:
        base: the model.
        structure: one map ``[1, L]``.
    """

    def __init__(self, base: NvgImageGenerator, structure: GivenStructure) -> None:
        digest = hashlib.sha256(structure.structure_BL.cpu().numpy().tobytes()).hexdigest()[:16]
        given = {"structure": digest, "structure_stage": structure.stage}
        self.spec = dataclasses.replace(base.spec, provenance={**base.spec.provenance, **given})
        self._base, self._structure = base, structure

    def generate(self, request: SampleRequest) -> SampleResult:
        return self._base.generate(request, structure=self._structure)

    def tokens(self, request: SampleRequest) -> TokenSequence:
        """The tokens of those images, without decoding them."""
        return self._base.tokens(request, structure=self._structure)

    @property
    def graphs(self) -> GraphCache:
        """Those of the base model."""
        return self._base.graphs


def with_structure(
    generator: ImageGenerator,
    *,
    image: Path | None = None,
    mask: Path | None = None,
    sample: tuple[int, int] | None = None,
    stage: int | None = None,
) -> ControlledGenerator:
    """Generate with the structure of an image, of a mask, or of one of the model's own samples.

    Args:
        generator: an NVG model.
        image: image file; cropped and resized like training images.
        mask: image file whose colours or grey values are regions.
        sample: (label, seed) of a sample.
        stage: last given stage. Default: all stages of an image, one cluster per region of a mask, half of a sample's stages.

    Raises:
        InputError: not exactly one source, an unreadable file, a model without structure maps, or no such stage.
    """
    if sum(source is not None for source in (image, mask, sample)) != 1:
        raise InputError("give exactly one source of structure: an image, a mask or a sample")
    if not isinstance(generator, NvgImageGenerator):
        raise InputError(f"{generator.spec.name} is a {generator.spec.family} model and has no structure maps; use an NVG run")
    layout = generator.generator.layout
    if image is not None:
        pixels = np.array(centre_crop(read_image(image), generator.spec.image_size))
        images_B3HW = to_float(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        device = generator.generator.content.scale_factors.device
        return ControlledGenerator(generator, structure_from_image(generator.tokenizer, images_B3HW.to(device), layout, stage))
    if mask is not None:
        return ControlledGenerator(generator, structure_from_mask(read_mask(mask), layout, stage))
    assert sample is not None
    request = SampleRequest(labels_B=torch.tensor([sample[0]]), seeds_B=torch.tensor([sample[1]]), trace=True)
    trace = generator.generate(request).trace
    assert trace is not None
    return ControlledGenerator(generator, structure_from_trace(trace, layout, layout.last // 2 if stage is None else stage))


def with_own_structure(generator: ImageGenerator) -> ControlledGenerator:
    """Generate with the structure of one of the model's own samples at all stages: content alone is generated.

    Raises:
        InputError: a model without structure maps.
    """
    if not isinstance(generator, NvgImageGenerator):
        raise InputError(f"{generator.spec.name} is a {generator.spec.family} model and has no structure maps; use an NVG run")
    request = SampleRequest(labels_B=torch.tensor([0]), seeds_B=torch.tensor([0]))
    return ControlledGenerator(generator, structure_from_tokens(generator.tokens(request), generator.generator.layout))


def structure_from_tokens(tokens: TokenSequence, layout: StageLayout, stage: int | None = None) -> GivenStructure:
    """The structure of a token sequence up to ``stage`` (default: all stages).

    Raises:
        InputError: the tokens have no structure map, or no such stage.
    """
    if tokens.structure_BL is None:
        raise InputError("these tokens have no structure map; they come from another family of models")
    wanted = layout.checked_stage(layout.last if stage is None else stage)
    return GivenStructure(layout.coarser(tokens.structure_BL, layout.last, wanted), wanted)


def structure_from_image(
    tokenizer: CodebookTokenizer, images_B3HW: Tensor, layout: StageLayout, stage: int | None = None
) -> GivenStructure:
    """The structure of images (float in [-1, 1]) up to ``stage``, from the tokenizer's clustering.

    Raises:
        InputError: images of another size, or no such stage.
    """
    with torch.no_grad():
        return structure_from_tokens(tokenizer.encode(images_B3HW), layout, stage)


def structure_from_trace(trace: tuple[StageTrace, ...], layout: StageLayout, stage: int) -> GivenStructure:
    """The structure of a traced sample up to ``stage``.

    Raises:
        InputError: the trace has no structure map of that stage.
    """
    stage = layout.checked_stage(stage)
    maps = [entry.structure_BHW for entry in trace if entry.tokens == layout.tokens[stage]]
    if not maps or maps[0] is None:
        raise InputError(f"the trace has no structure map of stage {stage}; sample with SampleRequest(trace=True)")
    return GivenStructure(maps[0].flatten(1).long(), stage)


def structure_from_mask(mask_HW: np.ndarray, layout: StageLayout, stage: int | None = None) -> GivenStructure:
    """A balanced structure of one image that follows a segmentation as closely as equal halves allow.

    Each position of the grid takes the region that covers most of it. Every cluster is then halved so that as few positions as
    possible are separated from their region: whole regions are combined to come closest to one half, and one region gives up
    the positions nearest to the other side. A cluster within one region is cut across its longer side.

    Args:
        mask_HW: integer region of every pixel; the values have no meaning.
        layout: grid and stages.
        stage: last stage that the mask decides; by default the first one with a cluster per region.

    Returns:
        One map ``[1, L]`` of that stage.

    Raises:
        InputError: not an integer mask, more regions than positions, or no such stage.
    """
    regions_L = _regions_on_grid(mask_HW, layout)
    if stage is None:
        count = len(np.unique(regions_L))
        stage = next(stage for stage, clusters in enumerate(layout.tokens) if clusters >= count and stage > 0)
    stage = layout.checked_stage(stage)
    places_L2 = np.stack(np.divmod(np.arange(layout.positions), layout.grid[1]), axis=1).astype(np.float64)
    structure_L = np.zeros(layout.positions, dtype=np.int64)
    for depth in range(layout.known(stage)):
        odd_L = np.zeros_like(structure_L)
        for label in range(1 << depth):
            members = np.flatnonzero(structure_L == label)
            odd_L[members] = _odd_half(regions_L[members], places_L2[members])
        structure_L = 2 * structure_L + odd_L
    return GivenStructure(torch.from_numpy(structure_L)[None], stage)


def read_mask(path: Path) -> np.ndarray:
    """A mask from an image file, integer ``[H, W]``: palette indices or grey values as they are, colours numbered in order.

    Raises:
        InputError: the file is missing or not an image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            pixels = np.asarray(image if image.mode in ("1", "L", "P", "I", "I;16") else image.convert("RGB"))
    except FileNotFoundError:
        raise InputError(f"no mask at {path}; give an image file whose colours or grey values are regions") from None
    except (UnidentifiedImageError, OSError) as error:
        raise InputError(f"{path} cannot be read as an image: {error}") from None
    if pixels.ndim == 2:
        return pixels.astype(np.int64)
    red, green, blue = (pixels[..., channel].astype(np.int64) for channel in range(3))
    return np.unique((red << 16) | (green << 8) | blue, return_inverse=True)[1].reshape(pixels.shape[:2])


def _regions_on_grid(mask_HW: np.ndarray, layout: StageLayout) -> np.ndarray:
    """The region that covers most of each position, ``[L]``, numbered from 0 without gaps."""
    mask_HW = np.asarray(mask_HW)
    if mask_HW.ndim != 2 or not mask_HW.size or mask_HW.dtype.kind not in "iub":
        raise InputError(f"a mask is an integer array [H, W], got {mask_HW.dtype} of shape {mask_HW.shape}")
    values, inverse = np.unique(mask_HW, return_inverse=True)
    if len(values) > layout.positions:
        raise InputError(
            f"the mask has {len(values)} regions, more than the {layout.positions} positions of the grid; use an image without "
            "colour gradients (an indexed PNG, not a JPEG)"
        )
    indices_HW = torch.from_numpy(inverse.reshape(mask_HW.shape).astype(np.int64))
    shares = [F.adaptive_avg_pool2d((indices_HW == region).double()[None], layout.grid) for region in range(len(values))]
    return torch.cat(shares).argmax(dim=0).flatten().numpy()


def _odd_half(regions_n: np.ndarray, places_n2: np.ndarray) -> np.ndarray:
    """0 or 1 per member: 1 for the half that becomes the odd child; the first member gets 0."""
    half = len(regions_n) // 2
    regions, counts_r = np.unique(regions_n, return_counts=True)
    odd_n = np.zeros(len(regions_n), dtype=np.int64)
    if len(regions) == 1:
        extent = np.ptp(places_n2, axis=0)
        axis = int(extent[1] > extent[0])
        odd_n[np.lexsort((places_n2[:, 1 - axis], places_n2[:, axis]))[half:]] = 1
    else:
        chosen = regions[_subset_nearest(counts_r.tolist(), half)]
        odd_n[np.isin(regions_n, chosen)] = 1
        surplus = int(odd_n.sum()) - half
        if surplus:
            side = int(surplus > 0)
            # Closest to half means that every region of the larger side exceeds the surplus, so one region is enough.
            full = max(regions[np.isin(regions, chosen) == bool(side)], key=lambda region: (regions_n == region).sum())
            goal = places_n2[odd_n != side].mean(axis=0)
            candidates = np.flatnonzero(regions_n == full)
            distance = ((places_n2[candidates] - goal) ** 2).sum(axis=1)
            odd_n[candidates[np.argsort(distance, kind="stable")[: abs(surplus)]]] = 1 - side
    return 1 - odd_n if odd_n[0] else odd_n


def _subset_nearest(counts: list[int], target: int) -> list[int]:
    """Indices of a proper, non-empty subset whose sum is closest to ``target`` (the smaller sum on ties)."""
    subsets: dict[int, list[int]] = {0: []}
    for index, count in enumerate(counts):
        for total, members in list(subsets.items()):
            subsets.setdefault(total + count, [*members, index])
    sums = [total for total in subsets if 0 < total < sum(counts)]
    return subsets[min(sums, key=lambda total: (abs(total - target), total))]
