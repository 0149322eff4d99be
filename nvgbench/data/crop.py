"""Cropping images of any size to squares: ADM's centre crop, and the random crop of both papers' training recipes."""

from __future__ import annotations

import numpy as np
from PIL import Image

RANDOM_CROP_MARGIN = 1.125


def centre_crop(pixels: np.ndarray, size: int) -> np.ndarray:
    """The centre square of a uint8 image ``[h, w, 3]`` at ``size`` pixels, as in ADM (guided-diffusion).

    Halve with a box filter while the shorter side is at least twice ``size``, resize the shorter side to ``size`` (bicubic),
    crop the centre. An image of the right size is returned unchanged.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    image = Image.fromarray(pixels)
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    image = _resize_shorter_side(image, size, Image.Resampling.BICUBIC)
    return _crop(image, (image.height - size) // 2, (image.width - size) // 2, size)


def random_crop(pixels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random square of a uint8 image ``[h, w, 3]``: shorter side to 1.125 times ``size`` (Lanczos), then a random crop."""
    image = _resize_shorter_side(Image.fromarray(pixels), round(RANDOM_CROP_MARGIN * size), Image.Resampling.LANCZOS)
    top = int(rng.integers(image.height - size + 1))
    left = int(rng.integers(image.width - size + 1))
    return _crop(image, top, left, size)


def _resize_shorter_side(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    scale = size / min(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), resampling)


def _crop(image: Image.Image, top: int, left: int, size: int) -> np.ndarray:
    return np.asarray(image)[top : top + size, left : left + size]
