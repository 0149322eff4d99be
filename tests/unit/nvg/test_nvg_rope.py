"""Rotary embedding: sizes of the axes, relative positions, structure_rope."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nvgbench.errors import InputError
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.rope import StructureRope, axis_sizes
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure import structure_embedding


def test_the_papers_head() -> None:
    assert axis_sizes(64, 8) == (8, *[2] * 8, 20, 20)


@given(head=st.integers(1, 200), channels=st.integers(1, 12))
def test_axes_fill_the_head_or_the_error_names_one_that_fits(head: int, channels: int) -> None:
    try:
        sizes = axis_sizes(head, channels)
    except InputError as error:
        smallest = int(str(error).split("fits this grid is ")[1].split()[0])
        assert head < smallest or head % 2
        assert sum(axis_sizes(smallest, channels)) == smallest
        return
    assert sum(sizes) == head
    assert len(sizes) == channels + 3
    assert all(size % 2 == 0 and size >= 2 for size in sizes)
    assert sizes[-1] == sizes[-2]
    assert sizes[0] in (8, 10)


def _rope(*, structure_rope: bool = True, canvas_condition: bool = False) -> StructureRope:
    config = NvgModelConfig(depth=1, head_size=32, structure_rope=structure_rope)
    return StructureRope(config, StageLayout((4, 8)), canvas_condition=canvas_condition)


def _embedding(seed: int = 0) -> torch.Tensor:
    labels = torch.stack([torch.randperm(32, generator=torch.Generator().manual_seed(seed + i)) for i in range(2)]) >> 3
    return structure_embedding(labels, 2, 5)


def test_ids_of_a_rectangular_grid() -> None:
    ids = _rope(canvas_condition=True).ids(_embedding())
    assert ids.shape == (2, 65, 8)
    assert (ids[:, 0] == 1).all()
    canvas, structure = ids[:, 1:33], ids[:, 33:]
    assert (canvas[..., 0] == 2).all()
    assert (structure[..., 0] == 0).all()
    assert torch.equal(canvas[..., 1:], structure[..., 1:])
    assert torch.equal(structure[..., 1:6], _embedding())
    assert structure[0, 11, 6:].tolist() == [1.0, 3.0]


def test_scores_depend_on_differences_of_ids_only() -> None:
    rope = _rope()
    generator = torch.Generator().manual_seed(1)
    query, key = torch.randn(2, 1, 1, 33, 32, generator=generator)
    query, key = (part[:, :, :1].expand(-1, -1, 33, -1) for part in (query, key))
    turn = rope(torch.ones(1, 32, 5))
    scores = turn.apply(query)[0, 0] @ turn.apply(key)[0, 0].T
    scores = scores.tolist()
    # Tokens 1 and 2 are neighbours in a row, and so are 12 and 13.
    assert scores[1][2] == pytest.approx(scores[12][13], abs=1e-4)
    assert scores[1][9] == pytest.approx(scores[12][20], abs=1e-4)
    assert scores[1][2] != pytest.approx(scores[1][9], abs=1e-2)


def test_without_structure_rope_the_structure_is_invisible() -> None:
    blind = _rope(structure_rope=False)
    assert torch.equal(blind.ids(_embedding(0)), blind.ids(_embedding(7)))
    assert not torch.equal(_rope().ids(_embedding(0)), _rope().ids(_embedding(7)))
