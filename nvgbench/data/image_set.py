"""`ImageSet`: the images that are scored, from a folder, an npz, an array, a tensor or a data set, read in chunks.

Shape letters: N images, B a chunk, H and W pixels.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.data.archive import NpzImages, large_uint8
from nvgbench.data.dataset import ImageDataset
from nvgbench.data.decode import read_header, read_image
from nvgbench.data.files import left_out_remarks, list_images
from nvgbench.data.labels import usable_classes, usable_names
from nvgbench.data.remarks import Notes, Remark
from nvgbench.data.threads import in_threads
from nvgbench.errors import InputError

CHUNK = 500
"""Images per chunk of the feature cache."""


@dataclass(frozen=True)
class Chunk:
    """Some images that are read when they are needed.

    Attributes:
        count: how many.
        read: returns them, uint8 ``[count, 3, H, W]``.
        key: hash of their content, if known; features in the cache are then found without reading.
    """

    count: int
    read: Callable[[], Tensor]
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Square images in a fixed order, read as often as needed and never all at once.

    Attributes:
        name: shown in messages and tables.
        count: number of images N.
        image_size: their side, pixels.
        load: takes ascending indices, returns those images, uint8 ``[B, 3, H, W]``.
        stream: takes a chunk size, yields all images in order; for sources that are faster that way.
        labels_N: int64 classes, if known.
        classes: names of the classes, if known.
        lossy: number of images from files in a lossy format.
        opening_remarks: what was unexpected when the source was opened.
        notes: what is noticed in the images while they are read.
        keys: number of a chunk of `CHUNK` images -> hash of its content, if known; its features are then found without
            reading it.
    """

    name: str
    count: int
    image_size: int
    load: Callable[[Sequence[int]], Tensor]
    stream: Callable[[int], Iterator[Tensor]] | None = None
    labels_N: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    lossy: int = 0
    opening_remarks: tuple[Remark, ...] = ()
    notes: Notes = field(default_factory=Notes)
    keys: Mapping[int, str] = field(default_factory=dict)

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What was unexpected and how it was read; complete once all images have been read."""
        return (*self.opening_remarks, *self.notes.remarks())

    def read(self, size: int) -> Iterator[Tensor]:
        """All images in order, ``size`` at a time, uint8 ``[B, 3, H, W]``."""
        if self.stream is not None:
            return self.stream(size)
        return (self.load(indices) for indices in self._ranges(size))

    def chunks(self, size: int = CHUNK, *, lazy: bool = False) -> Iterator[Chunk]:
        """The same images as chunks for the feature cache, each read when its images are needed.

        Args:
            size: images per chunk.
            lazy: read only chunks that are asked for, e.g. because other processes read the rest.
        """
        keys = self.keys if size == CHUNK else {}
        if not keys and not lazy:
            for images in self.read(size):
                yield Chunk(len(images), functools.partial(_identity, images))
            return
        for number, indices in enumerate(self._ranges(size)):
            yield Chunk(len(indices), functools.partial(self.load, indices), keys.get(number))

    def first(self, count: int) -> Tensor:
        """The first ``count`` images (all if there are fewer), uint8 ``[B, 3, H, W]``."""
        return self.load(range(min(count, self.count)))

    def _ranges(self, size: int) -> Iterator[range]:
        return (range(start, min(start + size, self.count)) for start in range(0, self.count, size))


def _same(images: Tensor) -> Tensor:
    return images


def open_images(
    given: str | os.PathLike[str] | NDArray[np.uint8] | Tensor, *, name: str | None = None, key: str | None = None
) -> ImageSet:
    """The images of a file, a folder, an array or a tensor.

    Args:
        given: an ``.npz`` (``arr_0`` uint8 ``[N, H, W, 3]``, labels in ``arr_1`` or ``labels``, class names in ``classes`` or
            ``class_names``), an ``.npy``, a folder of images, an array uint8 ``[N, H, W, 3]`` or a tensor uint8
            ``[N, 3, H, W]``. The images of a folder are sorted by path, sub-folders included, and have no labels. Labels that
            are not usable as classes are ignored with a remark.
        name: of the set; the file's if not given.
        key: name of the images in an npz; ``arr_0`` if not given.

    Raises:
        InputError: nothing there, a file that cannot be read, a wrong shape, dtype or size, labels of another number of images.
    """
    if isinstance(given, Tensor):
        return in_memory(name or "images", given)
    if isinstance(given, np.ndarray):
        if given.dtype != np.uint8 or given.ndim != 4 or given.shape[3] != 3:
            raise InputError(f"images are {given.dtype} {list(given.shape)}; expected a uint8 array [N, H, W, 3]")
        return in_memory(name or "images", torch.from_numpy(given).permute(0, 3, 1, 2))
    path = Path(given)
    if path.is_dir():
        return _open_folder(path, name or path.name)
    if not path.exists():
        raise InputError(f"{path} does not exist; expected an .npz with arr_0 (uint8 [N, H, W, 3]) or a folder of images")
    return _open_npz(path, name or path.name, key)


def in_memory(name: str, images_N3HW: Tensor, labels_N: NDArray[np.int64] | None = None) -> ImageSet:
    """The images of a tensor.

    Raises:
        InputError: not uint8, not square, labels that do not fit.
    """
    if images_N3HW.dtype != torch.uint8:
        raise InputError(f"{name}: images are {images_N3HW.dtype}, expected uint8; use nvgbench.data.images.to_uint8")
    shape = tuple(images_N3HW.shape)
    if images_N3HW.ndim != 4 or shape[1] != 3 or shape[2] != shape[3] or not shape[0]:
        raise InputError(f"{name}: images of shape {shape}, expected [N, 3, H, H] with N >= 1")
    classes_N, remarks = usable_classes(labels_N, shape[0], name)
    return ImageSet(
        name=name,
        count=shape[0],
        image_size=shape[2],
        load=lambda indices: images_N3HW[list(indices)],
        stream=lambda size: iter(images_N3HW.split(size)),
        labels_N=classes_N,
        opening_remarks=remarks,
    )


def from_dataset(dataset: ImageDataset, indices: NDArray[np.int64] | None = None) -> ImageSet:
    """The images of a data set, or those at ``indices``."""
    chosen = np.arange(len(dataset)) if indices is None else indices

    def load(indices: Sequence[int]) -> Tensor:
        return dataset.images(chosen[np.asarray(indices)])

    return ImageSet(
        name=dataset.name,
        count=len(chosen),
        image_size=dataset.image_size,
        load=load,
        labels_N=dataset.labels[chosen],
        classes=dataset.classes,
        opening_remarks=dataset.opening_remarks,
        notes=dataset.notes,
    )


def _open_npz(path: Path, name: str, key: str | None) -> ImageSet:
    file = NpzImages(path, key)
    if file.height != file.width:
        raise InputError(f"{path}: images of {file.width}x{file.height} pixels (width x height), expected square images")
    labels_N, label_remarks = usable_classes(file.labels(), file.count, name)
    classes, name_remarks = usable_names(file.class_names(), labels_N, name)
    return ImageSet(
        name=name,
        count=file.count,
        image_size=file.width,
        load=lambda indices: _planes(file.load(indices)),
        stream=lambda size: map(_planes, file.stream(size)),
        labels_N=labels_N,
        classes=classes,
        opening_remarks=(*label_remarks, *name_remarks),
    )


def _open_folder(folder: Path, name: str) -> ImageSet:
    listing = list_images(folder)
    remarks = left_out_remarks(listing.left_out, str(folder))
    if not listing.paths:
        found = f"; {remarks[0].text}" if remarks else ""
        raise InputError(f"{folder}: no images in this folder; expected .png, .jpg or other image files{found}")
    files = [folder / path for path in listing.paths]
    headers = [read_header(file) for file in files]  # now rather than during the extraction; a few bytes of each
    side = headers[0].height
    for file, header in zip(files, headers, strict=True):
        if (header.width, header.height) != (side, side):
            raise InputError(f"{file}: {header.width}x{header.height} pixels, expected {side}x{side} as in every other image")

    notes = Notes()

    def load(indices: Sequence[int]) -> Tensor:
        return _planes(np.stack(in_threads(lambda index: read_image(files[index], notes), indices)))

    return ImageSet(
        name=name,
        count=len(files),
        image_size=side,
        load=load,
        lossy=sum(header.lossy for header in headers),
        opening_remarks=remarks,
        notes=notes,
    )


def _planes(pixels_BHW3: NDArray[np.uint8]) -> Tensor:
    count, height, width, _ = pixels_BHW3.shape
    planes_B3HW = large_uint8((count, 3, height, width))
    planes_B3HW[:] = pixels_BHW3.transpose(0, 3, 1, 2)
    return torch.from_numpy(planes_B3HW)


def _identity(images: Tensor) -> Tensor:
    return images
