"""Pictures of a sample's stages: structure maps and canvases."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.files import whole_file
from nvgbench.types import SampleResult, StageTrace

_GOLDEN = 0.618033988749895


def structure_colours(tokens: int) -> np.ndarray:
    """One colour per cluster of a stage, uint8 ``[tokens, 3]``.

    The hue follows the label, so that children (2j, 2j + 1) stay close to their parent's hue; the lightness alternates, so that
    consecutive labels differ.
    """
    colours = np.zeros((tokens, 3), dtype=np.uint8)
    for label in range(tokens):
        hue = (label + 0.5) / tokens
        lightness = 0.35 + 0.4 * ((label * _GOLDEN) % 1.0) if tokens > 1 else 0.6
        colours[label] = [round(255 * part) for part in colorsys.hls_to_rgb(hue, lightness, 0.65)]
    return colours


def colour_structure(structure_HW: Tensor, tokens: int, side: int) -> Image.Image:
    """A structure map as a picture of ``side`` x ``side`` pixels, by nearest neighbour."""
    picture = structure_colours(tokens)[structure_HW.cpu().numpy()]
    return Image.fromarray(picture).resize((side, side), Image.Resampling.NEAREST)


def trace_strip(result: SampleResult, path: Path, *, side: int = 64, images: int = 4) -> Path:
    """Write `trace_image` as PNG and return its path.

    Raises:
        InputError: the result has no trace.
    """
    if not result.trace:
        raise InputError("these samples have no trace; request it with SampleRequest(trace=True)")
    with whole_file(path) as temporary:
        trace_image(result.trace, side=side, images=images).save(temporary, format="PNG", optimize=True)
    return path


def trace_image(stages: Sequence[StageTrace], *, side: int = 64, images: int = 4) -> Image.Image:
    """A picture of the stages of the first samples: for each, a row of structure maps (if any) above a row of canvases.

    Args:
        stages: the trace of a batch.
        side: side of each tile, pixels.
        images: show at most this many samples.
    """
    shown = min(images, len(stages[0].canvas_B3HW))
    rows = 2 if stages[0].structure_BHW is not None else 1
    gap, head = 4, 16
    width = len(stages) * (side + gap) + gap
    height = head + shown * (rows * (side + gap) + gap)
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    for stage, trace in enumerate(stages):
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
    return sheet
