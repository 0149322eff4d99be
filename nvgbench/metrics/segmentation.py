"""How well label maps follow segmentations that people drew, or exact masks.

All measures but those of boundaries and colours follow from the table of overlaps. Over-segmentation raises boundary recall and
achievable accuracy whatever the map, so they are compared at equal numbers of segments only.

Shape letters: H and W pixels, S segments of the map, R regions of the annotation.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.optimize import linear_sum_assignment

from nvgbench.errors import InputError

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Masks = NDArray[np.bool_]

_FEW = 1024


def overlaps(labels_HW: Any, regions_HW: Any) -> Integers:
    """Pixels in every pair of segment and region, int64 ``[S, R]``; labels that do not occur get no row.

    Raises:
        InputError: not two integer arrays of one shape ``[H, W]``.
    """
    first, second = np.asarray(labels_HW), np.asarray(regions_HW)
    if first.shape != second.shape or first.ndim != 2 or first.size == 0 or {first.dtype.kind, second.dtype.kind} - set("iu"):
        raise InputError(
            f"maps are {first.dtype} {first.shape} and {second.dtype} {second.shape}; expected integers of one shape [H, W]"
        )
    row_N, column_N = _numbered(first), _numbered(second)
    rows, columns = int(row_N.max()) + 1, int(column_N.max()) + 1
    counts = np.bincount(row_N * columns + column_N, minlength=rows * columns).reshape(rows, columns)
    return counts[counts.any(1)][:, counts.any(0)].astype(np.int64)


def intersection_over_union(overlaps_SR: Integers) -> Floats:
    """IoU of every segment with every region, ``[S, R]``."""
    union_SR = overlaps_SR.sum(1, keepdims=True) + overlaps_SR.sum(0, keepdims=True) - overlaps_SR
    return overlaps_SR / union_SR


def covering(overlaps_SR: Integers) -> float:
    """Mean over pixels of the IoU of their region with its best segment (Arbeláez et al. 2011, eq. 8), in (0, 1]."""
    return float(best_overlap(overlaps_SR) @ overlaps_SR.sum(0) / overlaps_SR.sum())


def best_overlap(overlaps_SR: Integers) -> Floats:
    """IoU of every region with its best segment, ``[R]``."""
    return intersection_over_union(overlaps_SR).max(0)


def rand_index(overlaps_SR: Integers) -> float:
    """Share of pixel pairs on which map and annotation agree (Rand 1971); its mean over annotators is the PRI, in [0, 1]."""
    pairs, of_map, of_annotation, together = (
        float((counts * (counts - 1.0) / 2).sum())
        for counts in (overlaps_SR.sum(), overlaps_SR.sum(1), overlaps_SR.sum(0), overlaps_SR)
    )
    return 1.0 if pairs == 0 else (pairs + 2 * together - of_map - of_annotation) / pairs


def variation_of_information(overlaps_SR: Integers) -> float:
    """H(map | annotation) + H(annotation | map), bits (Meilă 2005); 0 for equal partitions."""
    joint, of_map, of_annotation = (
        _entropy(counts / overlaps_SR.sum()) for counts in (overlaps_SR, overlaps_SR.sum(1), overlaps_SR.sum(0))
    )
    return max(2 * joint - of_map - of_annotation, 0.0)


def achievable_accuracy(overlaps_SR: Integers) -> float:
    """Share of pixels that are right if every segment takes its most frequent region (Liu et al. 2011), in (0, 1]."""
    return float(overlaps_SR.max(1).sum() / overlaps_SR.sum())


def undersegmentation_error(overlaps_SR: Integers) -> float:
    """Share of pixels that leak: of every overlap the smaller part of the segment, inside or outside the region.

    Neubert and Protzel (2012), eq. 5; between 0 and 1 for annotations with two regions, larger for more.
    """
    outside_SR = overlaps_SR.sum(1, keepdims=True) - overlaps_SR
    return float(np.minimum(overlaps_SR, outside_SR).sum() / overlaps_SR.sum())


def hungarian_iou(overlaps_SR: Integers) -> float:
    """Mean over regions of the IoU under the best one-to-one assignment of segments; regions left over count 0."""
    iou_SR = intersection_over_union(overlaps_SR)
    rows, columns = linear_sum_assignment(iou_SR, maximize=True)
    return float(iou_SR[rows, columns].sum() / iou_SR.shape[1])


def boundaries(labels_HW: Any) -> Masks:
    """Pixels whose right or lower neighbour has another label: lines one pixel wide, as in BSDS500's ground truth."""
    labels_HW = np.asarray(labels_HW)
    found = np.zeros(labels_HW.shape, dtype=bool)
    found[:, :-1] |= labels_HW[:, :-1] != labels_HW[:, 1:]
    found[:-1] |= labels_HW[:-1] != labels_HW[1:]
    return found


def boundary_recall(map_HW: Masks, annotation_HW: Masks, tolerance: int) -> float:
    """Share of the annotation's boundary pixels with one of the map within a square of ``2 · tolerance + 1`` pixels.

    Exchange the arguments for precision. NaN without boundary pixels to find.
    """
    return share_reached(reached(map_HW, tolerance), annotation_HW)


def reached(edges_HW: Masks, tolerance: int) -> Masks:
    """Pixels within a square of ``2 · tolerance + 1`` pixels around a boundary."""
    return np.asarray(maximum_filter(edges_HW, size=2 * tolerance + 1))


def share_reached(reached_HW: Masks, edges_HW: Masks) -> float:
    """Share of boundary pixels that lie where another boundary reaches; NaN without boundary pixels."""
    return float(reached_HW[edges_HW].mean()) if edges_HW.any() else float("nan")


def explained_variation(labels_HW: Any, image_HW3: Any) -> float:
    """Share of the colours' sum of squares that the segments' mean colours explain (Moore et al. 2008); NaN for one colour."""
    label_N = _numbered(np.asarray(labels_HW))
    colours_N3 = np.asarray(image_HW3, dtype=np.float64).reshape(len(label_N), -1)
    colours_N3 = colours_N3 - colours_N3.mean(0)
    total = float((colours_N3**2).sum())
    if total == 0:
        return float("nan")
    sizes_S = np.maximum(np.bincount(label_N), 1)
    sums = np.stack([np.bincount(label_N, weights=channel_N) for channel_N in colours_N3.T])
    return float((sums**2 / sizes_S).sum() / total)


def _numbered(labels_HW: NDArray[Any]) -> Integers:
    """Labels as numbers from 0, some of which may not occur, ``[N]``. Sorting is for labels that are large or negative."""
    if labels_HW.min() >= 0 and labels_HW.max() < _FEW:
        return labels_HW.reshape(-1).astype(np.int64)
    _, label_N = np.unique(labels_HW, return_inverse=True)
    return np.asarray(label_N.reshape(-1), np.int64)


def _entropy(shares: Floats) -> float:
    """Bits."""
    positive = shares[shares > 0]
    return float(-(positive * np.log2(positive)).sum())
