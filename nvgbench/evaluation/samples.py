"""Sets of uint8 images from an npz, a folder or memory, read in chunks. Shape letters: N images, B a chunk, H and W pixels."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from nvgbench.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_LOSSY = (".jpg", ".jpeg")


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Square images in a fixed order, read as often as wanted.

    Attributes:
        name: what people call it.
        count: number of images N.
        image_size: their side, pixels.
        read: called with a chunk size, yields uint8 ``[B, 3, H, W]`` in order.
        labels_N: int64 classes, where known.
        classes: names of the classes, where known.
        warnings: what a reader of its scores should know, one line each.
    """

    name: str
    count: int
    image_size: int
    read: Callable[[int], Iterator[Tensor]]
    labels_N: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def first(self, count: int) -> Tensor:
        """The first few images, uint8 ``[B, 3, H, W]``."""
        return next(self.read(min(count, self.count)))


def open_samples(path: Path) -> ImageSet:
    """Images of an ``.npz`` (``arr_0`` uint8 ``[N, H, W, 3]``, labels in ``arr_1`` or ``labels``) or of a folder.

    A folder's images are taken in the order of their paths, sub-folders included; they have no labels.

    Raises:
        InputError: nothing there, a file that cannot be read, a wrong shape, dtype or size.
    """
    if path.is_dir():
        return _open_folder(path)
    if not path.exists():
        raise InputError(f"no samples at {path}; expected an .npz with arr_0 (uint8 [N, H, W, 3]) or a folder of images")
    return _open_npz(path)


def in_memory(name: str, images_N3HW: Tensor, labels_N: NDArray[np.int64] | None = None) -> ImageSet:
    """An `ImageSet` of a tensor.

    Raises:
        InputError: not uint8, not square, labels that do not fit.
    """
    if images_N3HW.dtype != torch.uint8:
        raise InputError(f"{name}: images are {images_N3HW.dtype}, expected uint8; use nvgbench.data.images.to_uint8")
    shape = tuple(images_N3HW.shape)
    if images_N3HW.ndim != 4 or shape[1] != 3 or shape[2] != shape[3] or not shape[0]:
        raise InputError(f"{name}: images of shape {shape}, expected [N, 3, H, H] with N >= 1")
    labels = _check_labels(labels_N, shape[0], name)
    return ImageSet(
        name=name,
        count=shape[0],
        image_size=shape[2],
        read=lambda size: iter(images_N3HW.split(size)),
        labels_N=labels,
        warnings=order_warnings(labels),
    )


def order_warnings(labels_N: NDArray[np.int64] | None) -> tuple[str, ...]:
    """What the order and balance of labels do to scores: sorted classes spoil an Inception Score cut into splits."""
    if labels_N is None or len(labels_N) < 2:
        return ()
    counts = np.bincount(labels_N)
    counts = counts[counts > 0]
    found = []
    if len(counts) > 1 and (np.diff(labels_N) >= 0).all():
        found.append("images are sorted by class; scores that cut them into splits in this order mean nothing")
    if len(counts) > 1 and counts.max() > 2 * counts.min():
        found.append(f"classes are unbalanced: {counts.min()} to {counts.max()} images a class")
    return tuple(found)


def _open_npz(path: Path) -> ImageSet:
    shape, dtype, fortran = _read_header(path)
    if dtype != np.uint8:
        raise InputError(f"{path}: arr_0 is {dtype}, expected uint8; clamp, round and convert the images (0 to 255)")
    if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or shape[0] < 1 or fortran:
        raise InputError(f"{path}: arr_0 has shape {shape}, expected [N, H, W, 3] of square images in C order")
    labels = _check_labels(_read_labels(path), shape[0], str(path))
    return ImageSet(
        name=path.name,
        count=shape[0],
        image_size=shape[1],
        read=lambda size: _stream_npz(path, size),
        labels_N=labels,
        warnings=order_warnings(labels),
    )


def _read_header(path: Path) -> tuple[tuple[int, ...], np.dtype, bool]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "arr_0.npy" not in names:
                raise InputError(f"{path}: holds {', '.join(sorted(names)[:5]) or 'nothing'}, expected arr_0 with the images")
            with archive.open("arr_0.npy") as member:
                return _array_header(member)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: not a whole .npz file ({error}); write or copy it again") from None


def _array_header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype, bool]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(member)
    return shape, dtype, fortran


def _read_labels(path: Path) -> NDArray[np.int64] | None:
    try:
        with np.load(path, allow_pickle=False) as archive:
            for key in ("arr_1", "labels"):
                if key in archive.files:
                    return archive[key]
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise InputError(f"{path}: its labels cannot be read ({error}); write or copy it again") from None
    return None


def _stream_npz(path: Path, size: int) -> Iterator[Tensor]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as member:
            shape, _, _ = _array_header(member)
            picture = shape[1] * shape[2] * 3
            for start in range(0, shape[0], size):
                count = min(size, shape[0] - start)
                data = member.read(count * picture)
                if len(data) < count * picture:
                    raise InputError(f"{path}: ends after {start + len(data) // picture} of {shape[0]} images; copy it again")
                pixels = np.frombuffer(data, dtype=np.uint8).reshape(count, *shape[1:])
                yield torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).contiguous()
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path}: damaged ({error}); write or copy it again") from None


def _open_folder(path: Path) -> ImageSet:
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not files:
        raise InputError(f"{path}: no images in this folder; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    side = _read_image(files[0], None).shape[0]
    warnings: tuple[str, ...] = ()
    lossy = sum(file.suffix.lower() in _LOSSY for file in files)
    if lossy:
        warnings = (f"{lossy} of {len(files)} images are JPEG files, whose artefacts move the scores; use PNG or npz",)

    def read(size: int) -> Iterator[Tensor]:
        for start in range(0, len(files), size):
            pixels = np.stack([_read_image(file, side) for file in files[start : start + size]])
            yield torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    return ImageSet(name=path.name, count=len(files), image_size=side, read=read, warnings=warnings)


def _read_image(file: Path, side: int | None) -> NDArray[np.uint8]:
    try:
        with Image.open(file) as picture:
            pixels = np.asarray(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(f"{file}: cannot be read as an image ({error}); remove or replace it") from None
    height, width = pixels.shape[:2]
    if height != width or (side is not None and height != side):
        raise InputError(f"{file}: {width}x{height} pixels, expected {side or height}x{side or height} as every other image")
    return pixels


def _check_labels(labels: NDArray | None, count: int, name: str) -> NDArray[np.int64] | None:
    if labels is None:
        return None
    if labels.ndim != 1 or len(labels) != count or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise InputError(
            f"{name}: labels are {labels.dtype} of shape {labels.shape}, expected {count} integers from 0 on, one an image"
        )
    return labels.astype(np.int64)
