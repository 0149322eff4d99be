"""Cropping images of any size to squares: ADM's centre crop, both papers' random crop, LlamaGen's ten crops."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from nvgbench.errors import InputError

RANDOM_CROP_MARGIN = 1.125
TEN_CROP_MARGIN = 1.1
KERNELS = {name: Image.Resampling[name.upper()] for name in ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")}
"""Pillow's resampling filters by name."""


@dataclass(frozen=True)
class Fit:
    """How images of any size become squares of one size before they are scored.

    Attributes:
        resize: side of the result, pixels; None keeps the size of pixels and crops only.
        crop: ``center``: the centre square, after ADM's resizing of the shorter side if ``resize`` is given. None: the whole
            image, resized whatever its aspect ratio.
        kernel: Pillow's filter, one of `KERNELS`. All but ``nearest`` widen with the reduction, which is antialiasing.

    Raises:
        InputError: neither is given, a side below 1, another crop or kernel.
    """

    resize: int | None = None
    crop: str | None = None
    kernel: str = "bicubic"

    def __post_init__(self) -> None:
        if self.crop not in (None, "center"):
            raise InputError(f"`crop={self.crop!r}`: expected `crop='center'`, or no crop")
        if self.resize is None and self.crop is None:
            raise InputError("give `resize=`, `crop='center'`, or both")
        if self.resize is not None and self.resize < 1:
            raise InputError(f"`resize={self.resize}`: expected a side of 1 pixel or more")
        if self.kernel not in KERNELS:
            raise InputError(f"`kernel={self.kernel!r}`: expected one of {', '.join(KERNELS)}")

    def side(self, height: int, width: int) -> int:
        """Side of the result for an image of this size, pixels."""
        return self.resize or min(height, width)

    def __call__(self, pixels_hw3: np.ndarray) -> np.ndarray:
        """One uint8 image ``[h, w, 3]`` to ``[side, side, 3]``."""
        side = self.side(*pixels_hw3.shape[:2])
        if self.crop and self.resize:
            return centre_crop(pixels_hw3, side, KERNELS[self.kernel])
        if self.crop:
            height, width = pixels_hw3.shape[:2]
            return _crop(Image.fromarray(pixels_hw3), (height - side) // 2, (width - side) // 2, side)
        if pixels_hw3.shape[:2] == (side, side):
            return pixels_hw3
        return np.asarray(Image.fromarray(pixels_hw3).resize((side, side), KERNELS[self.kernel]))

    def __str__(self) -> str:
        if self.resize and self.crop:
            return f"shorter side to {self.resize} px (box halving, then {self.kernel}), centre crop"
        return "centre crop" if self.crop else f"to {self.resize}x{self.resize} px ({self.kernel})"


def centre_crop(pixels: np.ndarray, size: int, kernel: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """The centre square of a uint8 image ``[h, w, 3]`` at ``size`` pixels, as in ADM (guided-diffusion).

    Halve with a box filter while the shorter side is at least twice ``size``, resize the shorter side to ``size`` (bicubic by
    default), crop the centre. An image of the right size is returned unchanged.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    image = Image.fromarray(pixels)
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    image = _resize_shorter_side(image, size, kernel)
    return _crop(image, (image.height - size) // 2, (image.width - size) // 2, size)


def random_crop(pixels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random square of a uint8 image ``[h, w, 3]``: shorter side to 1.125 times ``size`` (Lanczos), then a random crop."""
    image = _resize_shorter_side(Image.fromarray(pixels), round(RANDOM_CROP_MARGIN * size), Image.Resampling.LANCZOS)
    top = int(rng.integers(image.height - size + 1))
    left = int(rng.integers(image.width - size + 1))
    return _crop(image, top, left, size)


def ten_crops(pixels: np.ndarray, size: int) -> list[np.ndarray]:
    """The corners and the centre of a uint8 image ``[h, w, 3]`` after `centre_crop` to 1.1 times ``size``, then their mirror
    images: the recipe of LlamaGen's token cache."""
    wide = centre_crop(pixels, int(TEN_CROP_MARGIN * size))
    end = len(wide) - size
    corners = [(0, 0), (0, end), (end, 0), (end, end), (round(end / 2), round(end / 2))]
    crops = [wide[top : top + size, left : left + size] for top, left in corners]
    return crops + [crop[:, ::-1] for crop in crops]


def _resize_shorter_side(image: Image.Image, size: int, resampling: Image.Resampling) -> Image.Image:
    scale = size / min(image.size)
    return image.resize((round(image.width * scale), round(image.height * scale)), resampling)


def _crop(image: Image.Image, top: int, left: int, size: int) -> np.ndarray:
    return np.asarray(image)[top : top + size, left : left + size]
