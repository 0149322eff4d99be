"""Labels as others write them, turned into classes. Shape letters: N images, K classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nvgbench.data.files import SPLIT_FOLDERS
from nvgbench.data.remarks import Remark
from nvgbench.errors import InputError

_IN_NAME = re.compile(r"_class(\d{1,10})$")
"""As in ``000001_class0003.png``, the names that this package gives."""
_SHARD = re.compile(r"\d{5,}")
"""Folders such as ``00000`` hold so many thousand images each and are no classes."""


def labels_of_paths(paths: Sequence[str]) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
    """Labels that stand in the names of files or folders.

    Args:
        paths: of image files, relative to the set's folder, with ``/``.

    Returns:
        Classes ``[N]`` and their names: numbers without names if every file is called ``…_class0003.png`` or the like; else one
        class per folder, in alphabetical order, if every file lies in one of several; else None and no names.
    """
    numbers = [_IN_NAME.search(path.rpartition(".")[0]) for path in paths]
    if all(numbers):
        return np.array([int(number[1]) for number in numbers if number], dtype=np.int64), ()
    folders = [path.partition("/")[0] if "/" in path else "" for path in paths]
    names = sorted(set(folders))
    if len(names) < 2 or "" in names or all(map(_SHARD.fullmatch, names)) or {name.lower() for name in names} <= SPLIT_FOLDERS:
        return None, ()
    label = {name: number for number, name in enumerate(names)}
    return np.array([label[folder] for folder in folders], dtype=np.int64), tuple(names)


def as_classes(labels: NDArray, count: int, name: str) -> NDArray[np.int64] | None:
    """Integer classes of ``count`` images.

    Args:
        labels: integers or floats without fractions, ``[N]`` or ``[N, 1]``, or one-hot rows ``[N, K]``.
        count: number of images N.
        name: of the set, for messages.

    Returns:
        int64 ``[N]``; None if ``labels`` are something else, such as fractions or text.

    Raises:
        InputError: labels of another number of images, or negative integers.
    """
    if labels.shape[:1] != (count,) or (labels.dtype.kind == "i" and labels.size and labels.min() < 0):
        raise InputError(
            f"{name}: labels are {labels.dtype} of shape {labels.shape}; expected {count} integers from 0, one per image"
        )
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


def usable_names(
    names: tuple[str, ...], labels_N: NDArray[np.int64] | None, name: str
) -> tuple[tuple[str, ...], tuple[Remark, ...]]:
    """Class names of a set that is scored, or none and a remark if a label has no name."""
    if not names or labels_N is None or labels_N.max() < len(names):
        return names, ()
    return (), (Remark("labels", f"{name} has {len(names)} class names and the label {labels_N.max()}; the names are ignored"),)


def usable_classes(labels: NDArray | None, count: int, name: str) -> tuple[NDArray[np.int64] | None, tuple[Remark, ...]]:
    """Labels of a set that is scored: classes ``[N]``, or None and a remark if they are not usable as classes.

    Raises:
        InputError: labels of another number of images, or negative integers.
    """
    if labels is None:
        return None, ()
    classes_N = as_classes(labels, count, name)
    if classes_N is not None:
        return classes_N, ()
    remark = (
        f"the labels of {name} are {labels.dtype} of shape {labels.shape}, not classes (integers from 0); they are ignored: "
        "no accuracy, no scores per class, and the order and balance of the classes are not checked"
    )
    return None, (Remark("labels", remark),)
