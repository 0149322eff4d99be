"""Galleries: which images of a set are shown, and the labels of the rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from nvgbench.data.image_set import ImageSet
from nvgbench.data.images import save_grid
from nvgbench.results.paths import without_machine_paths
from nvgbench.results.schema import Artifact

COLUMNS = 6
_MOST_ROWS = 10
_MOST_PIXELS = 2**28
"""At most this much is read for a gallery, 4,096 images of 256 px: large sets sorted by class fill fewer rows."""


def write_gallery(images: ImageSet, folder: Path, path: Path, kind: str, names: Sequence[str] = ()) -> Artifact:
    """Write a grid of the first images and describe it: one row per class if the classes are known.

    Args:
        images: the set, read from its start and no further than needed.
        folder: of the record that the artifact belongs to.
        path: PNG file to write, relative to ``folder``.
        kind: of the artifact.
        names: of the classes, if known.
    """
    name = without_machine_paths(images.name)
    if images.labels_N is None:
        shown = images.first(COLUMNS * COLUMNS)
        save_grid(shown, folder / path, columns=COLUMNS if images.count >= COLUMNS else None)
        return Artifact(kind=kind, path=str(path), caption=f"{name}: the first {len(shown)} images")
    rows = shown_rows(images)
    wanted = [index for row in rows.values() for index in row]
    save_grid(_pick(images, wanted), folder / path, columns=len(next(iter(rows.values()))))
    each = len(wanted) // len(rows)
    caption = f"{name}: the first {each} of each class, none chosen" if each > 1 else f"{name}: the first of each"
    return Artifact(kind=kind, path=str(path), caption=caption, rows=row_labels(rows, names))


def shown_rows(images: ImageSet) -> dict[int, list[int]]:
    """Class -> indices of the images in its row of the gallery; empty without labels."""
    if images.labels_N is None:
        return {}
    return class_rows(images.labels_N[: max(1, _MOST_PIXELS // images.image_size**2)])


def row_labels(rows: Iterable[int], names: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes of the rows."""
    return tuple(names[label] if label < len(names) else f"class {label}" for label in rows)


def class_rows(labels_N: np.ndarray) -> dict[int, list[int]]:
    """Class -> indices of its first images: equally many for each of at most ten classes.

    Classes with a full row (or, if none has one, with the most images) take precedence.
    """
    found: dict[int, list[int]] = {}
    for index, label in enumerate(labels_N.tolist()):
        row = found.setdefault(label, [])
        if len(row) < COLUMNS:
            row.append(index)
    fullest = max(len(row) for row in found.values())
    kept = sorted(label for label, row in found.items() if len(row) == fullest)[:_MOST_ROWS]
    return {label: found[label] for label in kept}


def _pick(images: ImageSet, wanted: Sequence[int]) -> torch.Tensor:
    """The images at the indices ``wanted``, in that order."""
    ascending = sorted(wanted)
    place = {index: position for position, index in enumerate(ascending)}
    return images.load(ascending)[[place[index] for index in wanted]]
