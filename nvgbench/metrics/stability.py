"""Agreement of two clusterings of the same positions, for many images at once.

The adjusted Rand index is 0 on average for unrelated clusterings of the same sizes and 1 for equal ones. Normalised mutual
information is not corrected for chance: unrelated maps with 128 clusters of two positions score about 0.86, so it is only
reported together with the adjusted index.

Shape letters: B images, L positions, N clusters of all images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nvgbench.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


def adjusted_rand_index(labels_a_BL: Any, labels_b_BL: Any) -> Floats:
    """Adjusted Rand index of every image (Hubert and Arabie 1985), float64 ``[B]`` in [-0.5, 1].

    Args:
        labels_a_BL: integer labels (array or tensor); only their equality matters.
        labels_b_BL: the same shape.

    Returns:
        1 if both maps have a single cluster, or only clusters of one position.

    Raises:
        InputError: not two integer arrays of one shape ``[B, L]``.
    """
    a_BL, b_BL = _as_labels(labels_a_BL), _as_labels(labels_b_BL)
    _check_shapes(a_BL, b_BL)
    together, only_a, only_b = (_pairs(labels_BL) for labels_BL in (_cross(a_BL, b_BL), a_BL, b_BL))
    all_pairs = a_BL.shape[1] * (a_BL.shape[1] - 1) / 2
    expected = only_a * only_b / max(all_pairs, 1.0)
    span = (only_a + only_b) / 2 - expected
    return np.where(span == 0, 1.0, (together - expected) / np.where(span == 0, 1.0, span))


def normalized_mutual_information(labels_a_BL: Any, labels_b_BL: Any) -> Floats:
    """Mutual information over the arithmetic mean of both entropies, float64 ``[B]`` in [0, 1].

    Args:
        labels_a_BL: integer labels (array or tensor); only their equality matters.
        labels_b_BL: the same shape.

    Returns:
        1 if both maps have a single cluster.

    Raises:
        InputError: not two integer arrays of one shape ``[B, L]``.
    """
    a_BL, b_BL = _as_labels(labels_a_BL), _as_labels(labels_b_BL)
    _check_shapes(a_BL, b_BL)
    joint, of_a, of_b = (_entropy(labels_BL) for labels_BL in (_cross(a_BL, b_BL), a_BL, b_BL))
    mean = (of_a + of_b) / 2
    shared = np.clip(of_a + of_b - joint, 0.0, mean)
    return np.where(mean == 0, 1.0, shared / np.where(mean == 0, 1.0, mean))


def _as_labels(labels: Any) -> Integers:
    array = np.asarray(labels.cpu() if hasattr(labels, "cpu") else labels)
    if array.ndim != 2 or array.dtype.kind not in "iu" or 0 in array.shape:
        raise InputError(f"labels are {array.dtype} of shape {array.shape}; expected integers [images, positions]")
    return array.astype(np.int64)


def _check_shapes(a_BL: Integers, b_BL: Integers) -> None:
    if a_BL.shape != b_BL.shape:
        raise InputError(f"labels have shapes {a_BL.shape} and {b_BL.shape}; expected the same images and positions")


def _cross(a_BL: Integers, b_BL: Integers) -> Integers:
    """Labels of the intersections of both clusterings."""
    names = [np.unique(labels_BL, return_inverse=True)[1].reshape(labels_BL.shape) for labels_BL in (a_BL, b_BL)]
    return names[0] * (int(names[1].max()) + 1) + names[1]


def _cluster_sizes(labels_BL: Integers) -> tuple[Integers, Integers]:
    """``(image, size)`` of every cluster, int64 ``[N]`` each: run lengths of the sorted labels."""
    ordered_BL = np.sort(labels_BL, axis=1)
    begins_BL = np.ones(ordered_BL.shape, dtype=bool)
    begins_BL[:, 1:] = ordered_BL[:, 1:] != ordered_BL[:, :-1]
    starts = np.flatnonzero(begins_BL)
    return starts // labels_BL.shape[1], np.diff(starts, append=labels_BL.size)


def _pairs(labels_BL: Integers) -> Floats:
    """Number of pairs of positions that share a cluster, for each image."""
    image, size = _cluster_sizes(labels_BL)
    return np.bincount(image, weights=size * (size - 1) / 2, minlength=len(labels_BL)).astype(np.float64)


def _entropy(labels_BL: Integers) -> Floats:
    """Entropy of the cluster label of a random position, nats, for each image."""
    image, size = _cluster_sizes(labels_BL)
    share = size / labels_BL.shape[1]
    return np.maximum(np.bincount(image, weights=-share * np.log(share), minlength=len(labels_BL)), 0.0)
