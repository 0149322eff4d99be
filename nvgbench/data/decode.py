"""One image file to uint8 RGB; the only place where alpha and bit depth are treated.

Shape letters: h and w pixels of the file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import get_worker_info

from nvgbench.errors import InputError

_LOSSY = frozenset({"JPEG", "MPO"})
"""Pillow's names of formats that do not keep pixels exactly."""

Job = TypeVar("Job")


@dataclass(frozen=True)
class Header:
    """What an image file says about itself: its size in pixels, and whether its format is lossy."""

    width: int
    height: int
    lossy: bool


def read_header(path: str | os.PathLike[str]) -> Header:
    """Read the first bytes of an image file.

    Raises:
        InputError: the file cannot be read as an image.
    """
    with _opened(path) as image:
        return Header(image.width, image.height, image.format in _LOSSY)


def read_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """An image file as uint8 RGB ``[h, w, 3]``; transparent pixels are laid on white, 16 bits keep the upper 8.

    Raises:
        InputError: the file cannot be read as an image.
    """
    with _opened(path) as image:
        return np.asarray(_to_rgb(image))


def decode_all(decode: Callable[[Job], NDArray[np.uint8]], jobs: Sequence[Job]) -> list[NDArray[np.uint8]]:
    """``decode`` of every job, in order, by several threads: decoding releases the interpreter lock."""
    # A worker of a data loader is one of several processes already.
    if len(jobs) < 2 or get_worker_info() is not None:
        return [decode(job) for job in jobs]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(decode, jobs))


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).partition(str(path))[0]
        raise InputError(f"{path} cannot be read as an image ({reason.strip(' :')}); replace or remove the file") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        paper = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(paper, layer).convert("RGB")
    return image.convert("RGB")
