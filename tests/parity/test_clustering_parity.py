"""Clusterings beyond ``nvgbench verify``: the package's own order of ties, and round trips of the embedding."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nvgbench.nvg.clustering import build_structure
from nvgbench.nvg.structure import structure_embedding, structure_labels
from nvgbench.nvg.verification import FIXTURES


@pytest.fixture(scope="module")
def golden() -> np.lib.npyio.NpzFile:
    return np.load(FIXTURES / "nvg_public.npz")


@pytest.mark.parametrize("name", ["randn_256x32", "smooth_256x32", "image_256x32", "randn_64x16"])
def test_tie_order_does_not_matter_without_ties(golden: np.lib.npyio.NpzFile, name: str) -> None:
    points_BLC = torch.from_numpy(golden[f"A.{name}.points"])
    assert torch.equal(build_structure(points_BLC), torch.from_numpy(golden[f"A.{name}.labels"]).long())


def test_embedding_of_every_stage(golden: np.lib.npyio.NpzFile) -> None:
    expected_BSLK = torch.from_numpy(golden["E.struct_feat_all"])
    for stage in range(9):
        structure_BL = structure_labels(expected_BSLK[:, stage], stage)
        assert torch.equal(structure_embedding(structure_BL, stage, 8), expected_BSLK[:, stage].float())


def test_embedding_of_reference_labels(golden: np.lib.npyio.NpzFile) -> None:
    structure_BL = torch.from_numpy(golden["E.split3.labels"]).long()
    assert torch.equal(structure_labels(structure_embedding(structure_BL, 3, 8), 3), structure_BL)
    # Worked example of the paper's equation: K = 8, stage 2, label 2.
    assert structure_embedding(torch.tensor([[2]]), 2, 8).tolist() == [[[2, 0, 1, 1, 1, 1, 1, 1]]]
