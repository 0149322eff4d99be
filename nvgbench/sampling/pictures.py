"""Pictures of how a sample came about: structure maps and canvases, from one token to all."""

from __future__ import annotations

import colorsys
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.files import whole_file
from nvgbench.types import SampleResult

_GOLDEN = 0.618033988749895


def structure_colours(tokens: int) -> np.ndarray:
    """One colour for each cluster of a stage, uint8 ``[tokens, 3]``.

    Hue follows the label, so that children (2j, 2j + 1) stay near their parent's hue and nesting can be seen; lightness
    alternates, so that neighbours in the order can be told apart.
    """
    colours = np.zeros((tokens, 3), dtype=np.uint8)
    for label in range(tokens):
        hue = (label + 0.5) / tokens
        lightness = 0.35 + 0.4 * ((label * _GOLDEN) % 1.0) if tokens > 1 else 0.6
        colours[label] = [round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, 0.65)]
    return colours


def colour_structure(structure_HW: Tensor, tokens: int, side: int) -> Image.Image:
    """A structure map as a picture of ``side`` x ``side`` pixels, nearest-neighbour."""
    picture = structure_colours(tokens)[structure_HW.cpu().numpy()]
    return Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)


def trace_strip(result: SampleResult, path: Path, *, side: int = 64, images: int = 4) -> Path:
    """Write a picture of the stages of the first few samples: a row of structure maps over a row of canvases for each.

    Args:
        result: samples made with ``trace=True``.
        path: PNG file to write.
        side: side of each tile, pixels.
        images: how many samples at the most.

    Raises:
        InputError: the result holds no trace.
    """
    if not result.trace:
        raise InputError("these samples hold no trace; ask for it with SampleRequest(trace=True)")
    shown = min(images, len(result.images_B3HW))
    rows = 2 if result.trace[0].structure_BHW is not None else 1
    gap, head = 4, 16
    width = len(result.trace) * (side + gap) + gap
    height = head + shown * (rows * (side + gap) + gap)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for stage, trace in enumerate(result.trace):
        left = gap + stage * (side + gap)
        label = f"{trace.tokens}"
        draw.text((left + side / 2 - draw.textlength(label) / 2, 2), label, fill="black")
        for image in range(shown):
            top = head + image * (rows * (side + gap) + gap)
            if trace.structure_BHW is not None:
                sheet.paste(colour_structure(trace.structure_BHW[image], trace.tokens, side), (left, top))
                top += side + gap
            canvas = Image.fromarray(trace.canvas_B3HW[image].permute(1, 2, 0).cpu().numpy())
            sheet.paste(canvas.resize((side, side), Image.Resampling.NEAREST), (left, top))
    with whole_file(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)
    return path


def grid_columns(count: int) -> int:
    """Columns that make a grid of ``count`` pictures about square."""
    return max(1, math.ceil(math.sqrt(count)))
