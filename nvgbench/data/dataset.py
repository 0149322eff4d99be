"""`ImageDataset`, the interface of data sources: images by index, cropped to size, cached if they fit, with labels and masks.

Shape letters: B batch, N images of the data set, H and W pixels (both `image_size`).
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from nvgbench.data.crop import centre_crop, random_crop, ten_crops
from nvgbench.data.remarks import Notes, Remark
from nvgbench.data.threads import in_threads
from nvgbench.files import StrPath

Split = Literal["train", "eval"]
Augment = Literal["none", "random-crop", "ten-crop"]

# Up to this size the uint8 images of a data set are kept in memory once decoded.
CACHE_LIMIT_BYTES = 2 << 30
_CHUNK = 256
_MOST_NAMES = 10


@dataclass(frozen=True, kw_only=True)
class DataRequest:
    """What is asked of a data source.

    Attributes:
        image_size: side of the square images, pixels.
        split: training images or held-out ones; no image is in both.
        augment: of training images; ``none`` for held-out images, which are always cut from the centre.
        limit: how many images at most, spread evenly over the classes; for procedural data, how many to draw.
        seed: of procedural data.
        root: folder for downloads; the user's cache if None.
    """

    image_size: int
    split: Split = "train"
    augment: Augment = "none"
    limit: int | None = None
    seed: int = 0
    root: StrPath | None = None


@dataclass(frozen=True)
class Sample:
    """One image.

    Attributes:
        image: uint8 ``[3, H, W]``.
        label: its class.
        masks: integer maps ``[H, W]`` by name, if the source has any: ``object`` (0 background, 1 … n), ``part`` (0
            background, ids of the objects' parts), ``semantic`` (0 background, 1 object).
    """

    image: Tensor
    label: int
    masks: Mapping[str, np.ndarray] | None = None


class ImageDataset(ABC):
    """Square uint8 images with labels.

    Attributes:
        name: the source and the split, shown in messages and tables.
        classes: class names; a label is an index into them. Without classes all labels are 0.
        image_size: side of every image, pixels.
        labels: int64 ``[N]``.
        augment: how an image is augmented when `get` or `images` is given a random generator.
        flip: whether it is then also mirrored, with probability 1/2.
        notes: what is noticed in the images while they are read.
        in_memory: whether images stay in memory once decoded: they fit, and there is no augmentation.
    """

    # Decoding files releases the interpreter lock, so threads help; rendering does not.
    threaded = False

    def __init__(
        self,
        *,
        name: str,
        classes: Sequence[str],
        labels: np.ndarray,
        image_size: int,
        fingerprint: str | Callable[[], str],
        augment: Augment = "none",
        remarks: Sequence[Remark] = (),
    ) -> None:
        assert labels.dtype == np.int64
        assert labels.ndim == 1
        self.name = name
        self.classes = tuple(classes)
        self.labels = labels
        self.image_size = image_size
        self._fingerprint = fingerprint
        self.augment = augment
        self.flip = False
        self.opening_remarks = (*remarks, *_missing_classes(self.classes, labels))
        self.notes = Notes()
        self.in_memory = augment == "none" and len(labels) * 3 * image_size**2 <= CACHE_LIMIT_BYTES
        self._cache: Tensor | None = None
        self._cached = np.zeros(len(labels), dtype=bool)

    @abstractmethod
    def read(self, index: int) -> np.ndarray:
        """The image as stored: uint8 ``[h, w, 3]`` of any size."""

    def describe(self, index: int) -> str:
        """What to call an image in a message."""
        return f"image {index}"

    def masks(self, index: int) -> Mapping[str, np.ndarray] | None:
        """The masks of an image, if the source has any."""
        return None

    @property
    def views(self) -> int:
        """Number of different augmented versions of each image; 0 if there is no limit."""
        return {"none": 1 + self.flip, "ten-crop": 10}.get(self.augment, 0)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of what determines the images; for files, of their contents, which are read on first use.

        Raises:
            OSError: a file cannot be read.
        """
        return self._fingerprint if isinstance(self._fingerprint, str) else self._fingerprint()

    @property
    def remarks(self) -> tuple[Remark, ...]:
        """What was unexpected and how it was read; complete once all images have been read."""
        return (*self.opening_remarks, *self.notes.remarks())

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        """Image ``index`` without augmentation.

        Raises:
            IndexError: no such image (which also ends iteration).
            InputError: the image cannot be read.
        """
        return self.get(index, None)

    def get(self, index: int, rng: np.random.Generator | None) -> Sample:
        """Image ``index``, augmented if a generator is given, and then without masks."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        augmented = rng is not None and self.views != 1
        image = self.images(np.array([index]), [rng] if rng is not None else None)[0]
        return Sample(image, int(self.labels[index]), None if augmented else self.masks(index))

    def images(self, indices: np.ndarray, rngs: Sequence[np.random.Generator] | None = None) -> Tensor:
        """Images by index, uint8 ``[B, 3, H, W]``, augmented if ``rngs`` has one generator per image.

        Raises:
            InputError: an image cannot be read.
        """
        if rngs is not None and self.augment != "none":
            images = self._stack(list(zip(indices.tolist(), rngs, strict=True)), self._cropped)
        else:
            images = self._plain(indices)
        if rngs is not None and self.flip:
            flipped_B = torch.tensor([bool(rng.integers(2)) for rng in rngs])
            images[flipped_B] = images[flipped_B].flip(-1)
        return images

    def all_views(self, indices: np.ndarray) -> Tensor:
        """Every augmented version of images by index, uint8 ``[B, V, 3, H, W]``.

        Version v is what `images` returns if the first draw from a generator, ``integers(V)``, is v.

        Raises:
            InputError: an image cannot be read.
        """
        if self.augment == "ten-crop":
            tens = self._stack(indices.tolist(), lambda index: np.concatenate(ten_crops(self.read(index), self.image_size)))
            return tens.unflatten(2, (10, self.image_size)).transpose(1, 2)
        plain = self._plain(indices)
        return torch.stack([plain, plain.flip(-1)], dim=1) if self.flip else plain.unsqueeze(1)

    def _plain(self, indices: np.ndarray) -> Tensor:
        if not self.in_memory:
            return self._stack([(index, None) for index in indices.tolist()], self._cropped)
        missing = np.unique(indices[~self._cached[indices]])
        for start in range(0, len(missing), _CHUNK):
            self._fill(missing[start : start + _CHUNK])
        assert self._cache is not None
        return self._cache[torch.from_numpy(indices)].contiguous()

    def preload(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Decode all images into memory now rather than on first use; does nothing if they do not fit.

        Args:
            progress: called with (images done, images in total) after each chunk.
        """
        for start in range(0, len(self) if self.in_memory else 0, _CHUNK):
            self.images(np.arange(start, min(start + _CHUNK, len(self))))
            if progress is not None:
                progress(min(start + _CHUNK, len(self)), len(self))

    def _fill(self, indices: np.ndarray) -> None:
        if self._cache is None:
            self._cache = torch.empty(len(self), 3, self.image_size, self.image_size, dtype=torch.uint8)
        self._cache[torch.from_numpy(indices)] = self._stack([(index, None) for index in indices.tolist()], self._cropped)
        self._cached[indices] = True

    def _cropped(self, job: tuple[int, np.random.Generator | None]) -> np.ndarray:
        index, rng = job
        pixels = self.read(index)
        self._note(pixels, index)
        if rng is None:
            return centre_crop(pixels, self.image_size)
        if self.augment == "ten-crop":
            return ten_crops(pixels, self.image_size)[rng.integers(10)]
        return random_crop(pixels, self.image_size, rng)

    def _note(self, pixels_hw3: np.ndarray, index: int) -> None:
        """Take note of an image without content, which is rather misread than meant."""
        if (pixels_hw3 == pixels_hw3[0, 0]).all():
            kind = "the same" if pixels_hw3[0, 0].any() else "black"
            self.notes.add(f"in which every pixel is {kind}", self.describe(index))

    def _stack(self, jobs: list[Any], make: Callable[[Any], np.ndarray]) -> Tensor:
        pictures = in_threads(make, jobs) if self.threaded else [make(job) for job in jobs]
        return torch.from_numpy(np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2)))


def _missing_classes(classes: Sequence[str], labels: np.ndarray) -> tuple[Remark, ...]:
    missing = np.setdiff1d(np.arange(len(classes)), labels)
    if not len(missing):
        return ()
    named = ", ".join(classes[label] for label in missing[:_MOST_NAMES]) + (" …" if len(missing) > _MOST_NAMES else "")
    return (Remark("classes", f"no image of {len(missing)} of the {len(classes)} classes: {named}"),)
