"""`ImageSet`: the images that are scored, from a folder, an npz, an array, a tensor or a data set, read in chunks.

Shape letters: N images, B a chunk, H and W pixels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.data.archive import NpzImages, is_zip_of_images, large_uint8
from nvgbench.data.crop import Fit
from nvgbench.data.dataset import ImageDataset
from nvgbench.data.decode import Header
from nvgbench.data.image_files import ImageFiles, files_of_folder, files_of_zip
from nvgbench.data.labels import labels_of_paths, usable_classes, usable_names
from nvgbench.data.remarks import Notes, Remark
from nvgbench.data.threads import in_threads
from nvgbench.errors import InputError
from nvgbench.files import StrPath

CHUNK = 500
"""Images per chunk of the feature cache."""
_HOW_TO_FIT = "; `resize=` and `crop='center'` bring images of other sizes to one"


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
        labels_of_folders: whether labels and class names are those of the folders that the files lie in.
        lossy: number of images from files in a lossy format.
        fit: how the images were brought to one size; None if they had it.
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
    labels_of_folders: bool = False
    lossy: int = 0
    fit: Fit | None = None
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


def open_images(
    given: StrPath | NDArray[np.uint8] | Tensor,
    *,
    name: str | None = None,
    key: str | None = None,
    resize: int | None = None,
    crop: str | None = None,
    kernel: str = "bicubic",
) -> ImageSet:
    """The images of a file, a folder, an array or a tensor.

    Args:
        given: an ``.npz`` (``arr_0`` uint8 ``[N, H, W, 3]``, labels in ``arr_1`` or ``labels``, class names in ``classes`` or
            ``class_names``), an ``.npy``, a folder or a zip of images, an array uint8 ``[N, H, W, 3]`` or a tensor uint8
            ``[N, 3, H, W]``. Image files are sorted by path, sub-folders included; their labels are those of a zip's
            ``dataset.json``, of names such as ``000001_class0003.png``, or of their folders. Labels that are not usable as
            classes are ignored with a remark.
        name: of the set; the file's if not given.
        key: name of the images in an npz; ``arr_0`` if not given.
        resize, crop, kernel: see `nvgbench.data.crop.Fit`. Without the first two, all images have to be square and of one size.

    Raises:
        InputError: nothing there, a file that cannot be read, a wrong shape, dtype or size, labels of another number of images.
    """
    fit = None if resize is None and crop is None else Fit(resize, crop, kernel)
    if isinstance(given, Tensor):
        return in_memory(name or "images", given, fit=fit)
    if isinstance(given, np.ndarray):
        if given.dtype != np.uint8 or given.ndim != 4 or given.shape[3] != 3:
            raise InputError(f"images are {given.dtype} {list(given.shape)}; expected a uint8 array [N, H, W, 3]")
        return in_memory(name or "images", torch.from_numpy(given).permute(0, 3, 1, 2), fit=fit)
    path = Path(given)
    if path.is_dir():
        return _from_files(files_of_folder(path), name or path.name, fit)
    if not path.is_file():
        found = "is neither a file nor a folder" if path.exists() else "does not exist"
        raise InputError(f"{path} {found}; expected an .npz with arr_0 (uint8 [N, H, W, 3]) or a folder of images")
    if key is None and is_zip_of_images(path):
        return _from_files(files_of_zip(path), name or path.name, fit)
    return _from_npz(NpzImages(path, key), name or path.name, fit)


def in_memory(name: str, images_N3HW: Tensor, labels_N: NDArray[np.int64] | None = None, *, fit: Fit | None = None) -> ImageSet:
    """The images of a tensor.

    Raises:
        InputError: not uint8, not square (without ``fit``), labels that do not fit.
    """
    if images_N3HW.dtype != torch.uint8:
        raise InputError(f"{name}: images are {images_N3HW.dtype}, expected uint8; use nvgbench.data.images.to_uint8")
    shape = tuple(images_N3HW.shape)
    if images_N3HW.ndim != 4 or shape[1] != 3 or 0 in shape or (fit is None and shape[2] != shape[3]):
        raise InputError(f"{name}: images of shape {shape}, expected [N, 3, H, H] with N >= 1" + ("" if fit else _HOW_TO_FIT))

    if fit is not None and shape[2:] == (fit.side(*shape[2:]),) * 2:
        fit = None

    def fitted(images_B3HW: Tensor) -> Tensor:
        return images_B3HW if fit is None else _planes(_fitted(images_B3HW.permute(0, 2, 3, 1).cpu().numpy(), fit))

    classes_N, remarks = usable_classes(labels_N, shape[0], name)
    return ImageSet(
        name=name,
        count=shape[0],
        image_size=shape[2] if fit is None else fit.side(*shape[2:]),
        load=lambda indices: fitted(images_N3HW[list(indices)]),
        stream=lambda size: map(fitted, images_N3HW.split(size)),
        labels_N=classes_N,
        fit=fit,
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
        labels_N=dataset.labels[chosen] if dataset.classes else None,
        classes=dataset.classes,
        opening_remarks=dataset.opening_remarks,
        notes=dataset.notes,
    )


def _from_npz(file: NpzImages, name: str, fit: Fit | None) -> ImageSet:
    if fit is None and file.height != file.width:
        raise InputError(
            f"{file.path}: images of {file.width}x{file.height} pixels (width x height), expected square ones{_HOW_TO_FIT}"
        )
    labels_N, label_remarks = usable_classes(file.labels(), file.count, name)
    classes, name_remarks = usable_names(file.class_names(), labels_N, name)

    side = file.width if fit is None else fit.side(file.height, file.width)
    if (file.height, file.width) == (side, side):
        fit = None

    def fitted(pixels_BHW3: NDArray[np.uint8]) -> Tensor:
        return _planes(pixels_BHW3 if fit is None else _fitted(pixels_BHW3, fit))

    return ImageSet(
        name=name,
        count=file.count,
        image_size=side,
        load=lambda indices: fitted(file.load(indices)),
        stream=lambda size: map(fitted, file.stream(size)),
        labels_N=labels_N,
        classes=classes,
        fit=fit,
        opening_remarks=(*label_remarks, *name_remarks),
    )


def _from_files(files: ImageFiles, name: str, fit: Fit | None) -> ImageSet:
    headers = in_threads(files.header, files.paths)  # now rather than during the extraction; a few bytes of each
    side = _common_side(files, headers, fit)
    if all((header.height, header.width) == (side, side) for header in headers):
        fit = None
    labels_N, classes = (files.labels, ()) if files.labels is not None else labels_of_paths(files.paths)
    notes = Notes()

    def read(index: int) -> NDArray[np.uint8]:
        pixels_hw3 = files.read(files.paths[index], notes)
        return pixels_hw3 if fit is None else fit(pixels_hw3)

    return ImageSet(
        name=name,
        count=len(files.paths),
        image_size=side,
        load=lambda indices: _planes(np.stack(in_threads(read, indices))),
        labels_N=labels_N,
        classes=classes,
        labels_of_folders=bool(classes),
        lossy=sum(header.lossy for header in headers),
        fit=fit,
        opening_remarks=files.remarks,
        notes=notes,
    )


def _common_side(files: ImageFiles, headers: Sequence[Header], fit: Fit | None) -> int:
    """Side of all images, pixels.

    Raises:
        InputError: an image is not square, or differs from the first.
    """
    first = headers[0].height if fit is None else fit.side(headers[0].height, headers[0].width)
    for path, header in zip(files.paths, headers, strict=True):
        if fit is not None and fit.side(header.height, header.width) != first:
            raise InputError(
                f"{files.describe(path)}: the shorter side has {min(header.height, header.width)} pixels, expected {first} as "
                "in every other image; give `resize=` too"
            )
        if fit is None and (header.width, header.height) != (first, first):
            raise InputError(
                f"{files.describe(path)}: {header.width}x{header.height} pixels, expected {first}x{first} as in every other "
                f"image{_HOW_TO_FIT}"
            )
    return first


def _fitted(pixels_BHW3: NDArray[np.uint8], fit: Fit) -> NDArray[np.uint8]:
    return np.stack([fit(pixels_HW3) for pixels_HW3 in pixels_BHW3])


def _planes(pixels_BHW3: NDArray[np.uint8]) -> Tensor:
    count, height, width, _ = pixels_BHW3.shape
    planes_B3HW = large_uint8((count, 3, height, width))
    planes_B3HW[:] = pixels_BHW3.transpose(0, 3, 1, 2)
    return torch.from_numpy(planes_B3HW)


def _identity(images: Tensor) -> Tensor:
    return images
