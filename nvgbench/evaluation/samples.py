"""Sets of uint8 images from an npz, a folder or memory, read in chunks. Shape letters: N images, B a chunk, H and W pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from nvgbench.data.npz import NpzImages, large_uint8
from nvgbench.errors import InputError
from nvgbench.extractors.cache import CHUNK, Chunk

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
_LOSSY = (".jpg", ".jpeg")


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Square images in a fixed order, read as often as wanted and never all at once.

    Attributes:
        name: what people call it.
        count: number of images N.
        image_size: their side, pixels.
        load: called with ascending indices, gives those images, uint8 ``[B, 3, H, W]``.
        stream: called with a chunk size, yields all images in order; for sources that read better so.
        labels_N: int64 classes, where known.
        classes: names of the classes, where known.
        lossy: how many of the images come from JPEG files.
        remarks: what was not as expected of the file and is left out, a line each; the linter tells them.
        keys: number of a chunk of `CHUNK` images -> its content key, where it is known; then features are found without
            reading.
    """

    name: str
    count: int
    image_size: int
    load: Callable[[Sequence[int]], Tensor]
    stream: Callable[[int], Iterator[Tensor]] | None = None
    labels_N: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    lossy: int = 0
    remarks: tuple[str, ...] = ()
    keys: Mapping[int, str] = field(default_factory=dict)

    def read(self, size: int) -> Iterator[Tensor]:
        """All images in order, ``size`` at a time, uint8 ``[B, 3, H, W]``."""
        if self.stream is not None:
            return self.stream(size)
        return (self.load(indices) for indices in self._ranges(size))

    def chunks(self, size: int = CHUNK, *, lazy: bool = False) -> Iterator[Chunk]:
        """The same as chunks for the feature cache, which are read when their images are needed.

        Args:
            size: images a chunk.
            lazy: do not read on after a chunk that nobody asked for, e.g. because another process does.
        """
        keys = self.keys if size == CHUNK else {}
        if not keys and not lazy:
            for images in self.read(size):
                yield Chunk(len(images), functools.partial(_same, images))
            return
        for number, indices in enumerate(self._ranges(size)):
            yield Chunk(len(indices), functools.partial(self.load, indices), keys.get(number))

    def first(self, count: int) -> Tensor:
        """The first few images, uint8 ``[B, 3, H, W]``."""
        return self.load(range(min(count, self.count)))

    def _ranges(self, size: int) -> Iterator[range]:
        return (range(start, min(start + size, self.count)) for start in range(0, self.count, size))


def _same(images: Tensor) -> Tensor:
    return images


def open_samples(path: Path) -> ImageSet:
    """Images of an ``.npz`` (``arr_0`` uint8 ``[N, H, W, 3]``, labels in ``arr_1`` or ``labels``) or of a folder.

    A folder's images are taken in the order of their paths, sub-folders included; they have no labels. Labels of an npz may
    also be a column, one-hot rows or floats without fractions; others are left out with a remark.

    Raises:
        InputError: nothing there, a file that cannot be read, a wrong shape, dtype or size, labels of another number of images.
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
    return ImageSet(
        name=name,
        count=shape[0],
        image_size=shape[2],
        load=lambda indices: images_N3HW[list(indices)],
        stream=lambda size: iter(images_N3HW.split(size)),
        labels_N=_check_labels(labels_N, shape[0], name),
    )


def _open_npz(path: Path) -> ImageSet:
    file = NpzImages(path)
    labels_N, remarks = _usable_labels(file.labels(), file.count, str(path))
    return ImageSet(
        name=path.name,
        count=file.count,
        image_size=file.image_size,
        load=lambda indices: _planes(file.load(indices)),
        stream=lambda size: map(_planes, file.stream(size)),
        labels_N=labels_N,
        remarks=remarks,
    )


def _planes(pixels_BHW3: NDArray[np.uint8]) -> Tensor:
    count, height, width, _ = pixels_BHW3.shape
    planes_B3HW = large_uint8((count, 3, height, width))
    planes_B3HW[:] = pixels_BHW3.transpose(0, 3, 1, 2)
    return torch.from_numpy(planes_B3HW)


def _open_folder(path: Path) -> ImageSet:
    # A hidden file is not an image of the set, but what a killed process left of one.
    files = sorted(
        file
        for file in path.rglob("*")
        if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file() and not file.name.startswith(".")
    )
    if not files:
        raise InputError(f"{path}: no images in this folder; expected files ending in {', '.join(IMAGE_SUFFIXES)}")
    side = _read_image(files[0], None).shape[0]
    for file in files[1:]:
        _check_header(file, side)  # now rather than in the midst of the extraction; reads a few bytes of each
    lossy = sum(file.suffix.lower() in _LOSSY for file in files)

    def load(indices: Sequence[int]) -> Tensor:
        return _planes(np.stack([_read_image(files[index], side) for index in indices]))

    return ImageSet(name=path.name, count=len(files), image_size=side, load=load, lossy=lossy)


def _read_image(file: Path, side: int | None) -> NDArray[np.uint8]:
    with _opened(file, side) as picture:
        return np.asarray(picture.convert("RGB"))


def _check_header(file: Path, side: int) -> None:
    with _opened(file, side):
        pass


@contextmanager
def _opened(file: Path, side: int | None) -> Iterator[Image.Image]:
    """An image file whose header is that of a square picture of 8 bits (of ``side`` pixels, where that is known)."""
    try:
        with Image.open(file) as picture:
            width, height = picture.size
            if picture.mode.startswith("I"):  # would be cut off at 255, and with it nearly all of the picture
                raise InputError(f"{file}: 16-bit grey, expected 8 bits a channel; convert the images")
            if height != width or (side is not None and height != side):
                expected = f"{side or height}x{side or height}"
                raise InputError(f"{file}: {width}x{height} pixels, expected {expected} as every other image")
            yield picture
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(f"{file}: cannot be read as an image ({error}); remove or replace it") from None


def _check_labels(labels: NDArray | None, count: int, name: str) -> NDArray[np.int64] | None:
    if labels is None:
        return None
    if labels.ndim != 1 or len(labels) != count or not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0:
        raise InputError(
            f"{name}: labels are {labels.dtype} of shape {labels.shape}, expected {count} integers from 0 on, one an image"
        )
    return labels.astype(np.int64)


def _usable_labels(labels: NDArray | None, count: int, name: str) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Somebody else's labels as classes ``[N]``, or None and a remark where they cannot be told.

    Raises:
        InputError: they are of another number of images, or negative integers.
    """
    if labels is None:
        return None, ()
    if labels.shape[:1] != (count,) or (labels.dtype.kind == "i" and labels.min() < 0):
        raise InputError(
            f"{name}: labels are {labels.dtype} of shape {labels.shape}, expected {count} integers from 0 on, one an image"
        )
    classes_N = _as_classes(labels)
    if classes_N is not None:
        return classes_N, ()
    remark = (
        f"the labels of {Path(name).name} are {labels.dtype} of shape {labels.shape} and no classes (integers from 0 on); they "
        "are ignored: no accuracy, no scores by class, and neither order nor balance of the classes can be told by them"
    )
    return None, (remark,)


def _as_classes(labels: NDArray) -> NDArray[np.int64] | None:
    """Classes ``[N]`` of integers or floats without fractions ``[N]`` or ``[N, 1]``, or of one-hot rows; else None."""
    if labels.dtype.kind not in "iufb":
        return None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    elif labels.ndim == 2 and bool((((labels == 0) | (labels == 1)).all(axis=1) & (labels.sum(axis=1) == 1)).all()):
        labels = labels.argmax(axis=1)
    if labels.ndim != 1 or labels.dtype.kind == "b" or not np.isfinite(labels).all():
        return None
    with np.errstate(invalid="ignore"):  # floats beyond int64, which then differ
        classes_N = labels.astype(np.int64)
    return classes_N if classes_N.min() >= 0 and np.array_equal(classes_N, labels) else None
