"""Labels as others write them, turned into classes. Shape letters: N images, K classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvgbench.data.remarks import Remark
from nvgbench.errors import InputError


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
