"""Clustering: the batched algorithm compared with the loop of Algorithm 1, and the properties of a hierarchy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nvgbench.errors import InputError
from nvgbench.nvg.clustering import build_structure
from nvgbench.nvg.sequential import sequential_order, structure_of_order
from nvgbench.nvg.structure import finest_to_stages

METHODS = ("greedy", "quadtree", "random")


def sequential_reference(points_LC: np.ndarray, tie_break: str) -> torch.Tensor:
    """Structure maps ``[S, L]`` of integer points by the loop of Algorithm 1, whose distances are exact here."""
    length = len(points_LC)

    def keys(means_nC: torch.Tensor) -> torch.Tensor:
        count = len(means_nC)
        index_n = torch.arange(count)
        tie_nn = index_n[:, None] ^ index_n if tie_break == "xor" else torch.zeros(count, count, dtype=torch.int64)
        # Means are multiples of 1 / length. Row-major order decides among equal keys.
        distance_nn = (length**2 * (means_nC[:, None] - means_nC).square().sum(-1)).round()
        return count * distance_nn + tie_nn

    return structure_of_order(sequential_order(torch.from_numpy(points_LC).double(), keys)[None])[0]


def assert_hierarchy(structure_BSL: torch.Tensor, group_size: int = 2) -> None:
    batch, stages, length = structure_BSL.shape
    assert structure_BSL.dtype == torch.int64
    for stage in range(stages):
        count = group_size**stage
        sizes = torch.stack([row.bincount(minlength=count) for row in structure_BSL[:, stage]])
        assert torch.equal(sizes, torch.full((batch, count), length // count))
    assert torch.equal(structure_BSL[:, :-1], structure_BSL[:, 1:] // group_size)


points_strategy = hnp.arrays(np.int64, (3, 16, 2), elements=st.integers(-4, 4))


@settings(max_examples=40, deadline=None)
@given(points=points_strategy, tie_break=st.sampled_from(["xor", "index"]))
def test_equals_the_sequential_loop_with_many_ties(points: np.ndarray, tie_break: str) -> None:
    structure_BSL = build_structure(torch.from_numpy(points).float(), tie_break=tie_break)
    for image_LC, structure_SL in zip(points, structure_BSL, strict=True):
        assert torch.equal(structure_SL, sequential_reference(image_LC, tie_break))


@pytest.mark.parametrize("tie_break", ["xor", "index"])
def test_equals_the_sequential_loop_on_a_larger_grid(tie_break: str) -> None:
    points = np.random.default_rng(0).integers(-9, 9, (1, 64, 3))
    structure_BSL = build_structure(torch.from_numpy(points).float(), tie_break=tie_break)
    assert torch.equal(structure_BSL[0], sequential_reference(points[0], tie_break))


@settings(max_examples=30, deadline=None)
@given(
    points=hnp.arrays(np.float32, (2, 16, 3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)),
    group_size=st.sampled_from([2, 4, 16]),
    method=st.sampled_from(METHODS),
    child_order=st.sampled_from(["matched", "raster", "random"]),
)
def test_always_balanced_and_nested(points: np.ndarray, group_size: int, method: str, child_order: str) -> None:
    rng = torch.Generator().manual_seed(1)
    structure_BSL = build_structure(
        torch.from_numpy(points), group_size=group_size, method=method, child_order=child_order, generator=rng, grid=(4, 4)
    )
    assert_hierarchy(structure_BSL, group_size)


def test_image_does_not_depend_on_its_batch() -> None:
    # More images than fit into one chunk, some flat (these need another number of rounds).
    points_BLC = torch.randn(70, 128, 4, generator=torch.Generator().manual_seed(0))
    points_BLC[::3] = points_BLC[::3].round()
    points_BLC[::7] = 0.25
    structure_BSL = build_structure(points_BLC)
    assert_hierarchy(structure_BSL)
    for image in (0, 1, 3, 69):
        assert torch.equal(build_structure(points_BLC[image : image + 1])[0], structure_BSL[image])


def test_power_of_two_scale_and_large_values_change_nothing() -> None:
    points_BLC = torch.randn(2, 64, 8, generator=torch.Generator().manual_seed(0))
    structure_BSL = build_structure(points_BLC)
    for scale in (2.0**-20, 1024.0):
        assert torch.equal(build_structure(points_BLC * scale), structure_BSL)


def test_autocast_does_not_reach_the_distances() -> None:
    points_BLC = torch.randn(2, 64, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        structure_BSL = build_structure(points_BLC)
    assert torch.equal(structure_BSL, build_structure(points_BLC))


def test_flat_image_pairs_neighbours() -> None:
    structure_BSL = build_structure(torch.full((1, 16, 4), 0.3))
    assert structure_BSL[0, -1].tolist() == list(range(16))


def test_quadtree_halves_the_longer_side_rows_first() -> None:
    structure_BSL = build_structure(torch.zeros(1, 32, 1), method="quadtree", grid=(4, 8))
    stages = [structure_L.view(4, 8) for structure_L in structure_BSL[0]]
    assert stages[1][0].tolist() == [0] * 4 + [1] * 4
    assert stages[2][:, 0].tolist() == [0, 0, 1, 1]
    # Cuts: columns, rows, columns, rows, columns.
    assert stages[5][:2, :4].tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    square_L = build_structure(torch.zeros(1, 16, 1), method="quadtree", grid=(4, 4))[0, 1]
    assert square_L.view(4, 4)[:, 0].tolist() == [0, 0, 1, 1]


def test_raster_order_puts_the_first_member_first() -> None:
    points_BLC = torch.randn(2, 64, 4, generator=torch.Generator().manual_seed(0))
    for group_size in (2, 4, 8):
        structure_BSL = build_structure(points_BLC, group_size=group_size, child_order="raster")
        assert_hierarchy(structure_BSL, group_size)
        for stage in range(1, structure_BSL.shape[1]):
            for structure_L in structure_BSL[:, stage]:
                first = torch.stack([(structure_L == label).nonzero()[0, 0] for label in range(group_size**stage)])
                groups = first.view(-1, group_size)
                assert torch.equal(groups, groups.sort(dim=1).values)


def test_child_order_changes_names_only() -> None:
    points_BLC = torch.randn(1, 64, 4, generator=torch.Generator().manual_seed(0))
    matched_SL = build_structure(points_BLC)[0]
    for order in ("raster", "random"):
        other_SL = build_structure(points_BLC, child_order=order, generator=torch.Generator().manual_seed(3))[0]
        assert not torch.equal(other_SL, matched_SL)
        for stage in range(1, 7):
            pairs = torch.stack((matched_SL[stage], other_SL[stage])).unique(dim=1)
            assert pairs.shape[1] == 2**stage


def test_random_draws_come_from_the_generator() -> None:
    points_BLC = torch.zeros(2, 64, 1)

    def draw(seed: int) -> torch.Tensor:
        return build_structure(points_BLC, method="random", generator=torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert not torch.equal(draw(1)[0], draw(1)[1])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"method": "greddy"}, "did you mean 'greedy'"),
        ({"child_order": "none"}, "child_order 'none'"),
        ({"tie_break": "first"}, "tie_break"),
        ({"group_size": 3}, "not a power of two"),
        ({"group_size": (2, 3)}, "not a power of two"),
        ({"group_size": (2, 2)}, "not a power of the group size"),
        ({"group_size": 8}, "not a power of the group size"),
        ({"method": "random"}, "needs a generator"),
        ({"method": "quadtree"}, "the quadtree needs a grid"),
        ({"method": "quadtree", "grid": (4, 8)}, "the quadtree needs a grid"),
    ],
)
def test_refuses_invalid_arguments(arguments: dict, match: str) -> None:
    with pytest.raises(InputError, match=match):
        build_structure(torch.zeros(1, 16, 2), **arguments)


@pytest.mark.parametrize("bad", [torch.zeros(16, 2), torch.zeros(1, 16, 2, dtype=torch.int64), torch.zeros(1, 12, 2)])
def test_refuses_wrong_shapes(bad: torch.Tensor) -> None:
    with pytest.raises(InputError):
        build_structure(bad)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_refuses_latents_that_are_not_finite(value: float) -> None:
    latent_BLC = torch.zeros(1, 16, 2)
    latent_BLC[0, 3, 1] = value
    with pytest.raises(InputError, match="NaN or infinite"):
        build_structure(latent_BLC)


def test_finest_to_stages_by_group_size() -> None:
    structure_BL = torch.randperm(16, generator=torch.Generator().manual_seed(0))[None]
    assert finest_to_stages(structure_BL, 5)[0, 3].tolist() == (structure_BL[0] >> 1).tolist()
    assert finest_to_stages(structure_BL, 3)[0, 1].tolist() == (structure_BL[0] >> 2).tolist()
    with pytest.raises(InputError):
        finest_to_stages(structure_BL, 4)
    assert finest_to_stages(structure_BL, (1, 2, 16))[0, 1].tolist() == (structure_BL[0] >> 3).tolist()
    for clusters in ((1, 3, 16), (1, 2, 32)):
        with pytest.raises(InputError):
            finest_to_stages(structure_BL, clusters)


@pytest.mark.parametrize("child_order", ["matched", "raster"])
def test_a_list_of_group_sizes_picks_stages(child_order: str) -> None:
    """The clusters are those of the binary hierarchy; only the names of siblings may differ."""
    points_BLC = torch.randn(2, 16, 4, generator=torch.Generator().manual_seed(0))
    binary_BSL = build_structure(points_BLC)
    uneven_BSL = build_structure(points_BLC, (2, 8), child_order=child_order)
    assert uneven_BSL.shape[1] == 3
    assert torch.equal(uneven_BSL[:, 1], uneven_BSL[:, 2] // 8)
    pairs = torch.stack((binary_BSL[0, 1], uneven_BSL[0, 1])).unique(dim=1)
    assert pairs.shape[1] == 2
    first_Bn = uneven_BSL[:, 2].argsort(dim=1).view(2, 2, 8)
    assert child_order == "matched" or torch.equal(first_Bn, first_Bn.sort(dim=2).values)
