"""Reading a whole data set beforehand, to find what would stop a training in the middle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nvgbench.data.dataset import ImageDataset
from nvgbench.errors import InputError

_CHUNK = 256


def unreadable_images(dataset: ImageDataset, progress: Callable[[int, int], None] | None = None) -> list[str]:
    """One line for every image that cannot be read; afterwards, the remarks of ``dataset`` are complete.

    Args:
        dataset: every image is read once.
        progress: called with (images done, images in total) after each chunk.
    """
    found = []
    for start in range(0, len(dataset), _CHUNK):
        indices = np.arange(start, min(start + _CHUNK, len(dataset)))
        try:
            dataset.images(indices)
        except InputError:
            found += [line for index in indices.tolist() if (line := _failure(dataset, index)) is not None]
        if progress is not None:
            progress(min(start + _CHUNK, len(dataset)), len(dataset))
    return found


def _failure(dataset: ImageDataset, index: int) -> str | None:
    try:
        dataset.images(np.array([index]))
    except InputError as error:
        return str(error)
    return None
