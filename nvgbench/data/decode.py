"""One image file to uint8 RGB; the only place where formats, alpha and bit depth are treated.

Shape letters: h and w pixels of the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nvgbench.data.identify import HEAD, describe
from nvgbench.data.lossy import is_lossy
from nvgbench.data.remarks import Notes
from nvgbench.errors import InputError
from nvgbench.files import StrPath

MOST_PIXELS = 2**26
"""Larger images are refused: a few kilobytes can claim to be gigabytes, and decoding takes about 12 bytes per pixel."""
_FORMATS = (
    "PNG", "JPEG", "WEBP", "AVIF", "GIF", "BMP", "DIB", "TIFF", "JPEG2000", "PPM", "QOI", "SGI", "SUN", "DDS", "PSD", "ICO",
    "PCX", "XBM", "XPM",
)  # fmt: skip
"""Pillow's names of what is read: no format that starts another program or only names one."""
_BITS_PER_SAMPLE = 258
"""TIFF's tag; Pillow widens 12 bits to 16."""
_TGA = (".tga", ".icb", ".vda", ".vst")
"""TGA has no signature, so that anything could be taken for it; it is read from files with these suffixes only."""


@dataclass(frozen=True)
class Header:
    """Size of an image in pixels, and whether its format has changed the pixels."""

    width: int
    height: int
    lossy: bool


def read_header(path: StrPath) -> Header:
    """Read the first bytes of an image file.

    Raises:
        InputError: the file cannot be read as an image.
    """
    with _reading(path), open(path, "rb") as handle:
        return decode_header(handle, os.fspath(path))


def read_image(path: StrPath, notes: Notes | None = None) -> NDArray[np.uint8]:
    """An image file as uint8 RGB ``[h, w, 3]``, of several frames the first.

    Transparent pixels are laid on white. Integers of more than 8 bits are cut to their upper 8; whether 8, 12 or 16 are in use
    is told by the largest value, as 12 bits are stored in 16. Floats are in 0 to 1, or in 0 to 255 if one exceeds 1.

    Args:
        path: the file.
        notes: takes note of whatever of this was done.

    Raises:
        InputError: the file cannot be read as an image.
    """
    with _reading(path), open(path, "rb") as handle:
        return decode_image(handle, os.fspath(path), notes)


def decode_header(handle: IO[bytes], name: str) -> Header:
    """`read_header` of an open file called ``name``."""
    with _opened(handle, name) as image:
        return Header(image.width, image.height, is_lossy(image, handle))


def decode_image(handle: IO[bytes], name: str, notes: Notes | None = None) -> NDArray[np.uint8]:
    """`read_image` of an open file called ``name``."""

    def note(kind: str) -> None:
        if notes is not None:
            notes.add(kind, name)

    with _opened(handle, name) as image:
        if getattr(image, "is_animated", False):
            note("with several frames, of which the first is read")
        if image.mode == "F" or image.mode.startswith("I"):
            bits = 12 if getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE) == (12,) else 8
            grey_hw = _to_8_bits(np.asarray(image), note, bits)
            return np.repeat(grey_hw[:, :, None], 3, axis=2)
        if image.has_transparency_data:
            return np.asarray(_on_white(image, note))
        deep = ";16" in str(getattr(image, "tile", ""))  # the bytes' layout in the file; decoding clears it
        pixels_hw3 = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        if deep and image.format == "PNG" and image.mode == "RGB" and pixels_hw3.max() < 16:
            return _to_8_bits(_deep_png(handle), note)
        if deep:
            note("of more than 8 bits per channel, read as 16 bits")
        return pixels_hw3


@contextmanager
def _opened(handle: IO[bytes], name: str) -> Iterator[Image.Image]:
    with _reading(name):
        formats = ("TGA",) if name.lower().endswith(_TGA) else _FORMATS
        try:
            image = Image.open(handle, formats=formats)
        except Image.DecompressionBombError:
            raise InputError(f"{name} has more than the limit of {MOST_PIXELS:,} pixels; resize it first") from None
        except UnidentifiedImageError:
            handle.seek(0)
            kind = describe(handle.read(HEAD))
            remedy = kind.remedy or "replace or remove the file"
            raise InputError(f"{name} cannot be read as an image: it is {kind.what}; {remedy}") from None
        with image:
            if image.width * image.height > MOST_PIXELS:
                raise InputError(
                    f"{name} has {image.width}x{image.height} pixels, more than the limit of {MOST_PIXELS:,}; resize it first"
                )
            yield image


@contextmanager
def _reading(name: StrPath) -> Iterator[None]:
    """Whatever a decoder raises for damaged bytes, as one line with the file's name."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        reason = " ".join(reason.split())[:200]
        raise InputError(f"{name} cannot be read as an image ({reason}); replace or remove the file") from None


def _on_white(image: Image.Image, note: Callable[[str], None]) -> Image.Image:
    layer = image.convert("RGBA")
    if layer.getchannel("A").getextrema()[0] == 255:
        return layer.convert("RGB")
    note("with transparent pixels, laid on white")
    paper = Image.new("RGBA", layer.size, (255, 255, 255, 255))
    paper.alpha_composite(layer)
    return paper.convert("RGB")


def _to_8_bits(values: NDArray, note: Callable[[str], None], least_bits: int = 8) -> NDArray[np.uint8]:
    """Values of another depth than 8 bits as uint8 of the same shape, see `read_image`."""
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        if not (np.isfinite(low) and np.isfinite(high) and low >= 0 and high <= 255):
            raise ValueError(f"its values are floats from {low:g} to {high:g}; expected 0 to 1, or 0 to 255")
        note(f"of floats, read as {'0 to 1' if high <= 1 else '0 to 255'}")
        return np.rint(values * (255 if high <= 1 else 1)).astype(np.uint8)
    if low < 0 or high > 65535:
        raise ValueError(f"its values are integers from {low} to {high}; expected 0 to 255, 0 to 4095 or 0 to 65535")
    bits = max(least_bits, next(bits for bits in (8, 12, 16) if high < 1 << bits))
    note(f"of more than 8 bits per channel, read as {bits} bits")
    return (values >> (bits - 8)).astype(np.uint8)


def _deep_png(handle: IO[bytes]) -> NDArray[np.uint16]:
    """A PNG of three times 16 bits, ``[h, w, 3]``; Pillow keeps the upper bytes alone."""
    import torch
    from torchvision.io import ImageReadMode, decode_png

    handle.seek(0)
    data = torch.frombuffer(bytearray(handle.read()), dtype=torch.uint8)
    return decode_png(data, ImageReadMode.UNCHANGED).permute(1, 2, 0).numpy()
