"""Structure control by masks, images and samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nvgbench.errors import InputError
from nvgbench.nvg.sampler import GivenStructure
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure_control import (
    read_mask,
    structure_from_mask,
    structure_from_tokens,
    structure_from_trace,
)
from nvgbench.types import StageTrace, TokenSequence

LAYOUT = StageLayout((8, 8))


def test_a_mask_of_equal_halves_is_kept() -> None:
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[:, 32:] = 9
    given_structure = structure_from_mask(mask, LAYOUT)
    assert given_structure.stage == 1
    assert torch.equal(given_structure.structure_BL.view(8, 8), (torch.arange(8) >= 4).long().expand(8, -1))


def test_an_unequal_mask_is_balanced_with_the_fewest_changes() -> None:
    mask = np.zeros((8, 8), dtype=np.int64)
    mask[2:6, 2:6] = 1
    labels = structure_from_mask(mask, LAYOUT).structure_BL.view(8, 8).numpy()
    assert labels.sum() == 32
    # All sixteen positions of the object stay together, and only the missing sixteen join them.
    assert (labels[2:6, 2:6] == labels[2, 2]).all()
    assert (labels != mask).sum() == 16


def test_regions_stay_whole_where_their_sizes_allow() -> None:
    quarters = np.kron(np.array([[5, 7], [1, 2]]), np.ones((16, 16), dtype=np.int64))
    labels = structure_from_mask(quarters, LAYOUT)
    assert labels.stage == 2
    for region in (5, 7, 1, 2):
        assert len(np.unique(labels.structure_BL.view(8, 8).numpy()[quarters[::4, ::4] == region])) == 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), regions=st.integers(1, 64), stage=st.integers(1, 6))
def test_any_mask_gives_balanced_clusters(seed: int, regions: int, stage: int) -> None:
    mask = np.random.default_rng(seed).integers(regions, size=(8, 8))
    given_structure = structure_from_mask(mask, LAYOUT, stage)
    checked = given_structure.for_batch(torch.zeros(3, dtype=torch.int64), LAYOUT)
    assert checked.structure_BL.shape == (3, 64)
    assert checked.stage == stage


@pytest.mark.parametrize(
    ("mask", "stage", "words"),
    [
        (np.zeros((4, 4)), None, "integer array"),
        (np.zeros((4, 4, 3), dtype=np.uint8), None, "integer array"),
        (np.arange(256).reshape(16, 16), None, "256 regions"),
        (np.zeros((4, 4), dtype=np.int64), 7, "stages 1 to 6"),
    ],
)
def test_bad_masks_are_refused(mask: np.ndarray, stage: int | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        structure_from_mask(mask, LAYOUT, stage)


def test_masks_from_files(tmp_path: Path) -> None:
    regions = np.kron(np.array([[0, 3], [3, 1]], dtype=np.uint8), np.ones((4, 4), dtype=np.uint8))
    palette = Image.fromarray(regions, mode="P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.save(tmp_path / "palette.png")
    palette.convert("RGB").save(tmp_path / "colour.png")
    assert np.array_equal(read_mask(tmp_path / "palette.png"), regions)
    colours = read_mask(tmp_path / "colour.png")
    for region in (0, 1, 3):
        assert len(np.unique(colours[regions == region])) == 1
    assert len(np.unique(colours)) == 3


def test_files_that_are_not_masks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no mask"):
        read_mask(tmp_path / "missing.png")
    (tmp_path / "text.png").write_text("text")
    with pytest.raises(InputError, match="cannot be read"):
        read_mask(tmp_path / "text.png")


def test_structure_of_tokens_and_traces() -> None:
    structure_BL = torch.randperm(64, generator=torch.Generator().manual_seed(0))[None]
    indices = tuple(torch.zeros(1, count, dtype=torch.int64) for count in LAYOUT.tokens)
    from_tokens = structure_from_tokens(TokenSequence(indices, structure_BL), LAYOUT, 2)
    assert torch.equal(from_tokens.structure_BL, structure_BL >> 4)
    trace = tuple(
        StageTrace(count, torch.zeros(1), (structure_BL >> (6 - stage)).view(1, 8, 8))
        for stage, count in enumerate(LAYOUT.tokens)
    )
    assert torch.equal(structure_from_trace(trace, LAYOUT, 2).structure_BL, structure_BL >> 4)
    with pytest.raises(InputError, match="no structure map"):
        structure_from_trace(trace[:2], LAYOUT, 2)
    with pytest.raises(InputError, match="no structure map"):
        structure_from_tokens(TokenSequence(indices), LAYOUT)


@pytest.mark.parametrize(
    "structure_BL",
    [torch.zeros(1, 64, dtype=torch.int64), torch.arange(64)[None] % 2, torch.arange(32)[None], torch.zeros(2, 64)],
)
def test_structure_that_does_not_fit_is_refused(structure_BL: torch.Tensor) -> None:
    with pytest.raises(InputError, match="structure map"):
        GivenStructure(structure_BL, 2).for_batch(torch.zeros(3, dtype=torch.int64), LAYOUT)
