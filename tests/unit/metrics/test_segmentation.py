"""Measures of segmentations against scikit-learn, scikit-image and transcriptions of their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.metrics import contingency_table
from skimage.metrics import variation_of_information as split_and_merge
from sklearn.metrics import rand_score

from nvgbench.errors import InputError
from nvgbench.metrics import segmentation as seg

CASES = [(0, 1, 1), (1, 1, 4), (2, 5, 1), (3, 6, 4), (4, 30, 3), (5, 400, 7)]
"""Seed, segments, regions."""


def pair(seed: int, segments: int, regions: int) -> tuple[np.ndarray, np.ndarray]:
    """Random maps with coarse parts; labels have gaps."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, segments, (5, 6)) * 3
    regions_HW = np.kron(rng.integers(0, regions, (5, 3)) * 2, np.ones((4, 8), int))
    return np.kron(labels, np.ones((4, 4), int)), regions_HW


@pytest.mark.parametrize("case", CASES)
def test_measures_of_overlaps_against_libraries(case: tuple[int, int, int]) -> None:
    labels, regions = pair(*case)
    table = seg.overlaps(labels, regions)
    dense = contingency_table(labels, regions).toarray()
    np.testing.assert_array_equal(table, dense[dense.any(1)][:, dense.any(0)])
    # Exact counts on both sides: only the last division rounds.
    assert seg.rand_index(table) == pytest.approx(rand_score(regions.ravel(), labels.ravel()), rel=1e-12)
    assert seg.variation_of_information(table) == pytest.approx(sum(split_and_merge(regions, labels)), abs=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_measures_of_overlaps_against_their_definitions(case: tuple[int, int, int]) -> None:
    labels, regions = pair(*case)
    table, pixels = seg.overlaps(labels, regions), labels.size
    segments, parts = ([values == value for value in np.unique(values)] for values in (labels, regions))
    iou = [[(s & r).sum() / (s | r).sum() for r in parts] for s in segments]
    best = [max(row[column] for row in iou) for column in range(len(parts))]
    assert seg.covering(table) == pytest.approx(sum(r.sum() * b for r, b in zip(parts, best, strict=True)) / pixels)
    assert seg.achievable_accuracy(table) == pytest.approx(sum(max((s & r).sum() for r in parts) for s in segments) / pixels)
    leak = sum(min((s & r).sum(), (s & ~r).sum()) for r in parts for s in segments if (s & r).any())
    assert seg.undersegmentation_error(table) == pytest.approx(leak / pixels)


def test_equal_maps_are_perfect_and_one_segment_finds_nothing() -> None:
    labels, _ = pair(0, 6, 4)
    table = seg.overlaps(labels, labels)
    assert (seg.covering(table), seg.rand_index(table), seg.hungarian_iou(table)) == (1.0, 1.0, 1.0)
    assert seg.variation_of_information(table) == pytest.approx(0, abs=1e-12)
    assert seg.undersegmentation_error(table) == 0
    edges = seg.boundaries(labels)
    assert seg.boundary_recall(edges, edges, 0) == 1.0
    flat = np.zeros_like(labels)
    assert seg.boundary_recall(seg.boundaries(flat), edges, 2) == 0.0
    assert np.isnan(seg.boundary_recall(edges, seg.boundaries(flat), 2))


def test_hungarian_matching_uses_each_segment_once() -> None:
    labels = np.array([[0, 0, 0, 1]])
    regions = np.array([[0, 0, 1, 2]])
    # Segment 0 takes region 0 (2 / 3), segment 1 region 2 (1); region 1 is left over.
    assert seg.hungarian_iou(seg.overlaps(labels, regions)) == pytest.approx((2 / 3 + 1) / 3)


def test_boundary_tolerance_counts_pixels() -> None:
    labels, regions = np.zeros((8, 8), int), np.zeros((8, 8), int)
    labels[:, 3:], regions[:, 5:] = 1, 1
    own, other = seg.boundaries(labels), seg.boundaries(regions)
    assert [seg.boundary_recall(own, other, tolerance) for tolerance in (0, 1, 2)] == [0, 0, 1]


def test_explained_variation_against_its_definition() -> None:
    labels, _ = pair(1, 6, 4)
    image = np.random.default_rng(0).integers(0, 256, (*labels.shape, 3))
    means = np.zeros(image.shape)
    for label in np.unique(labels):
        means[labels == label] = image[labels == label].mean(0)
    between, total = (((colours - image.mean((0, 1))) ** 2).sum() for colours in (means, image))
    assert seg.explained_variation(labels, image) == pytest.approx(between / total)
    assert np.isnan(seg.explained_variation(labels, np.full(image.shape, 7)))


def test_other_arrays_are_refused() -> None:
    with pytest.raises(InputError, match="integers of one shape"):
        seg.overlaps(np.zeros((2, 3), int), np.zeros((3, 2), int))
    with pytest.raises(InputError, match="integers of one shape"):
        seg.overlaps(np.zeros((2, 3)), np.zeros((2, 3), int))


def test_covering_and_boundary_recall_of_a_grid_against_loops_over_pixels() -> None:
    """An oblong image of 12 x 18 pixels in a grid of 4 x 4, with one pixel of tolerance."""
    rng = np.random.default_rng(0)
    high, wide, side = 12, 18, 4
    grid = (np.arange(high)[:, None] * side // high) * side + np.arange(wide) * side // wide
    regions = np.kron(rng.integers(0, 3, (3, 3)), np.ones((4, 6), int))

    share = 0.0
    for region in np.unique(regions):
        inside = regions == region
        best = max((inside & (grid == cell)).sum() / (inside | (grid == cell)).sum() for cell in range(side**2))
        share += inside.sum() / regions.size * best
    assert seg.covering(seg.overlaps(grid, regions)) == pytest.approx(share, rel=1e-12)

    def edges(labels: np.ndarray) -> set[tuple[int, int]]:
        return {
            (y, x)
            for y in range(high)
            for x in range(wide)
            if (x + 1 < wide and labels[y, x] != labels[y, x + 1]) or (y + 1 < high and labels[y, x] != labels[y + 1, x])
        }

    drawn, found = edges(regions), edges(grid)
    near = {(y + dy, x + dx) for y, x in found for dy in (-1, 0, 1) for dx in (-1, 0, 1)}
    recall = seg.boundary_recall(seg.boundaries(grid), seg.boundaries(regions), 1)
    assert recall == pytest.approx(len(drawn & near) / len(drawn), rel=1e-12)


def test_large_and_negative_labels_count_like_small_ones() -> None:
    labels, regions = pair(3, 6, 4)
    np.testing.assert_array_equal(seg.overlaps(labels - 7, regions * 10_000), seg.overlaps(labels, regions))
    assert seg.explained_variation(labels * 10_000, regions[..., None].repeat(3, -1)) == pytest.approx(
        seg.explained_variation(labels, regions[..., None].repeat(3, -1)), rel=1e-12
    )
