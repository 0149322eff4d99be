"""Data sets that come as arrays: ``npz:PATH``, ``cifar10`` and ``cifar100``."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nvgbench.data.archive import NpzImages
from nvgbench.data.dataset import DataRequest, ImageDataset
from nvgbench.data.file_hashes import cache_folder
from nvgbench.data.labels import as_classes
from nvgbench.data.selection import HELD_OUT, held_out, round_robin
from nvgbench.errors import InputError

_MOST_CLASSES = 100_000


class ArrayDataset(ImageDataset):
    """Images of one size held as one array: uint8 ``[N, h, w, 3]``."""

    def __init__(
        self,
        pixels_NHWC: np.ndarray,
        labels: np.ndarray,
        classes: Sequence[str],
        *,
        name: str,
        request: DataRequest,
    ) -> None:
        image_size, augment = request.image_size, request.augment
        order = round_robin(labels)[: request.limit]
        self._pixels_NHWC = np.ascontiguousarray(pixels_NHWC[order])
        labels = labels[order]
        digest = hashlib.sha256(f"array {pixels_NHWC.shape[1:]} size={image_size}\n".encode())
        digest.update(labels.tobytes())
        digest.update(self._pixels_NHWC.data)
        super().__init__(
            name=name,
            classes=classes,
            labels=labels,
            image_size=image_size,
            fingerprint=digest.hexdigest(),
            augment=augment,
        )
        if augment == "none" and pixels_NHWC.shape[1:3] == (image_size, image_size):
            # The array is the cache already, whatever its size.
            self.in_memory = True
            self._cache = torch.from_numpy(self._pixels_NHWC).permute(0, 3, 1, 2)
            self._cached[:] = True
            for index, pixels in enumerate(self._pixels_NHWC):
                self._note(pixels, index)

    def read(self, index: int) -> np.ndarray:
        return self._pixels_NHWC[index]


def open_npz(location: str, request: DataRequest) -> ArrayDataset:
    """``arr_0``: uint8 ``[N, H, W, 3]``; ``arr_1`` or ``labels``: classes ``[N]``, a single class without them.

    A tenth of each class is held out, chosen by the hash of the images' positions.

    Raises:
        InputError: the file is missing or not an npz, or its arrays have another shape or type.
    """
    if not location:
        raise InputError("'npz' needs a file: `data='npz:PATH'`")
    path = Path(os.path.expanduser(location))
    if not path.is_file():
        raise InputError(f"{path} does not exist; `data='npz:PATH'` takes an .npz with arr_0 (uint8 images [N, H, W, 3])")
    file = NpzImages(path)
    labels_N = _labels(file)
    classes = file.class_names() or [str(label) for label in range(int(labels_N.max()) + 1)]
    if labels_N.max() >= len(classes):
        raise InputError(f"{path}: label {labels_N.max()} has no name; its array of class names holds {len(classes)}")
    out = held_out([str(i) for i in range(file.count)], labels_N)
    if not out.any():
        raise InputError(f"{path}: no class has more than one image; a tenth is held out, which takes at least 2 of a class")
    chosen = out == (request.split == "eval")
    pixels_NHWC = file.load(np.flatnonzero(chosen).tolist())
    name = f"npz:{location} ({request.split}, {HELD_OUT})"
    return ArrayDataset(pixels_NHWC, labels_N[chosen], classes, name=name, request=request)


def _labels(file: NpzImages) -> NDArray[np.int64]:
    labels = file.labels()
    if labels is None:
        return np.zeros(file.count, dtype=np.int64)
    labels_N = as_classes(labels, file.count, str(file.path))
    if labels_N is None:
        raise InputError(
            f"{file.path}: labels are {labels.dtype} of shape {labels.shape}; "
            f"expected {file.count} integers from 0, one per image"
        )
    if labels_N.max() >= _MOST_CLASSES:
        raise InputError(
            f"{file.path}: label {labels_N.max()} is out of range; labels count from 0 and stay below {_MOST_CLASSES:,}"
        )
    return labels_N


def open_cifar10(location: str, request: DataRequest) -> ArrayDataset:
    """CIFAR-10 as published; see `_open_cifar`."""
    from torchvision.datasets import CIFAR10

    return _open_cifar("cifar10", CIFAR10, location, request)


def open_cifar100(location: str, request: DataRequest) -> ArrayDataset:
    """CIFAR-100 as published; see `_open_cifar`."""
    from torchvision.datasets import CIFAR100

    return _open_cifar("cifar100", CIFAR100, location, request)


def _open_cifar(source: str, kind: Any, location: str, request: DataRequest) -> ArrayDataset:
    """Downloaded by torchvision if it is not there yet.

    Args:
        source: its name.
        kind: torchvision's class.
        location: folder that holds the archive or its contents; if empty, the request's ``root``, else the
            user's cache.
        request: see `DataRequest`.

    Raises:
        InputError: the files are not there and cannot be downloaded.
    """
    folder = Path(os.path.expanduser(location)) if location else request.root or cache_folder()
    if folder is None:
        raise InputError(f"{source!r} has no place: this user has no home folder; give one with `data='{source}:PATH'`")
    train = request.split == "train"
    try:
        data = kind(str(folder), train=train, download=False)
    except RuntimeError:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                data = kind(str(folder), train=train, download=True)
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"{source} is not in {folder} and cannot be downloaded ({error}); put {kind.filename} there, "
                "or use `data='imagefolder:PATH'` or `data='shapes'`"
            ) from None
    labels = np.array(data.targets, dtype=np.int64)
    return ArrayDataset(data.data, labels, data.classes, name=f"{source} ({request.split})", request=request)
