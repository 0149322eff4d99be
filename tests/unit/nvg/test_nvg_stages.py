"""Stages in numbers."""

from __future__ import annotations

import pytest
import torch

from nvgbench.errors import InputError
from nvgbench.nvg.stages import StageLayout


def test_the_papers_layout() -> None:
    layout = StageLayout((16, 16))
    assert layout.tokens == (1, 2, 4, 8, 16, 32, 64, 128, 256)
    assert (layout.channels, layout.last, layout.stages, layout.structure_stages) == (8, 8, 9, 7)


@pytest.mark.parametrize(
    ("grid", "group", "tokens"),
    [
        ((8, 8), 4, (1, 4, 16, 64)),
        ((4, 8), 2, (1, 2, 4, 8, 16, 32)),
        ((4, 4), (2, 8), (1, 2, 16)),
        ((16, 16), (16, 2, 8), (1, 16, 32, 256)),
    ],
)
def test_other_layouts(grid: tuple[int, int], group: int | tuple[int, ...], tokens: tuple[int, ...]) -> None:
    layout = StageLayout.of_stages(grid, tokens)
    assert layout.group_size == group
    assert layout.tokens == tokens
    assert layout.known(layout.last) == layout.channels
    assert sum(layout.halvings(stage) for stage in range(layout.last)) == layout.channels


def test_coarser_maps_nest() -> None:
    layout = StageLayout((4, 4), 4)
    assert layout.coarser(torch.arange(16)[None], 2, 1).tolist() == [[label // 4 for label in range(16)]]
    uneven = StageLayout((4, 4), (2, 8))
    assert uneven.coarser(torch.arange(16)[None], 2, 1).tolist() == [[label // 8 for label in range(16)]]


@pytest.mark.parametrize(
    ("grid", "group"),
    [((7, 8), 2), ((8, 8), 3), ((16, 16), 8), ((8, 8), 1), ((1, 2), 2), ((4, 4), (2, 4)), ((4, 4), ()), ((3, 4), (3, 2, 2)),
     ((4, 4), (2, 1, 8))],
)  # fmt: skip
def test_grids_that_do_not_split_are_refused(grid: tuple[int, int], group: int | tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="positions"):
        StageLayout(grid, group)


def test_stages_of_another_method_are_refused() -> None:
    with pytest.raises(InputError):
        StageLayout.of_stages((4, 4), (1, 4, 9, 16))
