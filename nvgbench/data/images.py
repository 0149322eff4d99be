"""The one conversion between float and uint8 images, PNG files, and grids of images.

Shape letters: B batch, H and W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.files import StrPath, whole_file

_PAPER = (255, 255, 255)
_INK = (40, 40, 40)


def to_uint8(images: Tensor) -> Tensor:
    """Float images in [-1, 1] to uint8 of the same shape and device: clamped, then rounded (ties to even).

    Raises:
        InputError: the images are not floating point.
    """
    if not images.is_floating_point():
        raise InputError(f"to_uint8 takes float images in [-1, 1], got {images.dtype}; uint8 images need no conversion")
    return images.float().clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """uint8 images to float32 in [-1, 1], same shape and device; `to_uint8` is the exact inverse.

    Raises:
        InputError: the images are not uint8.
    """
    if images.dtype != torch.uint8:
        raise InputError(f"to_float takes uint8 images, got {images.dtype}; float images are in [-1, 1] already")
    return images.float().div(127.5).sub(1)


def write_png(image_3HW: Tensor, path: StrPath) -> Path:
    """Write one uint8 RGB image as PNG, atomically, and return its path.

    Raises:
        InputError: wrong shape or dtype.
    """
    if image_3HW.ndim != 3 or image_3HW.shape[0] != 3 or image_3HW.dtype != torch.uint8:
        raise InputError(f"expected one uint8 image [3, H, W] for a PNG, got {image_3HW.dtype} {list(image_3HW.shape)}")
    return _write(Image.fromarray(np.ascontiguousarray(image_3HW.permute(1, 2, 0).cpu().numpy())), path)


def save_grid(images_B3HW: Tensor, path: StrPath, **layout: Any) -> Path:
    """Write `grid_image` as PNG, whole or not at all, and return its path."""
    return _write(grid_image(images_B3HW, **layout), path)


def grid_image(
    images_B3HW: Tensor,
    *,
    columns: int | None = None,
    padding: int = 2,
    captions: Sequence[str] | None = None,
    scale: int = 1,
) -> Image.Image:
    """Images side by side, row after row.

    Args:
        images_B3HW: uint8.
        columns: images per row; a nearly square grid if not given.
        padding: white pixels around each image.
        captions: one per image, written above it and cut off if too long.
        scale: number of times each pixel is repeated in both directions.

    Raises:
        InputError: wrong shape or dtype, no images, or not one caption per image.
    """
    if images_B3HW.ndim != 4 or images_B3HW.shape[1] != 3 or images_B3HW.dtype != torch.uint8 or not len(images_B3HW):
        raise InputError(
            f"expected uint8 images [B, 3, H, W] with B >= 1 for a grid, got {images_B3HW.dtype} {list(images_B3HW.shape)}"
        )
    count = len(images_B3HW)
    if captions is not None and len(captions) != count:
        raise InputError(f"{len(captions)} captions for {count} images; give one per image")
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    pixels = images_B3HW.permute(0, 2, 3, 1).cpu().numpy().repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = pixels.shape[1:3]
    font_size = max(9, min(16, width // 8))
    band = font_size + 4 if captions is not None else 0
    step_y, step_x = height + band + padding, width + padding
    sheet = np.full((rows * step_y + padding, columns * step_x + padding, 3), _PAPER, dtype=np.uint8)
    corners = [((i // columns) * step_y + padding, (i % columns) * step_x + padding) for i in range(count)]
    for picture, (top, left) in zip(pixels, corners, strict=True):
        sheet[top + band : top + band + height, left : left + width] = picture
    image = Image.fromarray(sheet)
    if captions is not None:
        _write_captions(image, corners, captions, font_size, width)
    return image


def _write_captions(
    image: Image.Image, corners: Sequence[tuple[int, int]], captions: Sequence[str], font_size: int, width: int
) -> None:
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(font_size)
    for (top, left), caption in zip(corners, captions, strict=True):
        text = caption
        while text and draw.textlength(text, font=font) > width:
            text = text[:-1]
        draw.text((left, top), text, fill=_INK, font=font)


def _write(image: Image.Image, path: StrPath) -> Path:
    with whole_file(path) as temporary:
        image.save(temporary, format="PNG")
    return Path(path)
