"""Clustering, structure embedding and balanced split against golden numbers of the reference implementation."""

from __future__ import annotations

import importlib.resources

import numpy as np
import pytest
import torch

from nvgbench.nvg.clustering import build_structure
from nvgbench.nvg.structure import split_clusters, structure_embedding, structure_labels


@pytest.fixture(scope="module")
def golden() -> np.lib.npyio.NpzFile:
    return np.load(str(importlib.resources.files("nvgbench.parity") / "fixtures" / "nvg_public.npz"))


# Without A.image_flat_256x32: there the float32 cancellation of the original decides the pairs.
@pytest.mark.parametrize("name", ["randn_256x32", "smooth_256x32", "image_256x32", "randn_64x16", "ties_64x4", "ties_256x32"])
def test_labels_and_child_order_equal_the_reference(golden: np.lib.npyio.NpzFile, name: str) -> None:
    points_BLC = torch.from_numpy(golden[f"A.{name}.points"])
    expected_BSL = torch.from_numpy(golden[f"A.{name}.labels"]).long()
    assert torch.equal(build_structure(points_BLC, tie_break="index"), expected_BSL)


@pytest.mark.parametrize("name", ["randn_256x32", "smooth_256x32", "image_256x32", "randn_64x16"])
def test_tie_order_does_not_matter_without_ties(golden: np.lib.npyio.NpzFile, name: str) -> None:
    points_BLC = torch.from_numpy(golden[f"A.{name}.points"])
    assert torch.equal(build_structure(points_BLC), torch.from_numpy(golden[f"A.{name}.labels"]).long())


def test_embedding_of_every_stage(golden: np.lib.npyio.NpzFile) -> None:
    expected_BSLK = torch.from_numpy(golden["E.struct_feat_all"])
    for stage in range(9):
        labels_BL = structure_labels(expected_BSLK[:, stage], stage)
        assert torch.equal(structure_embedding(labels_BL, stage, 8), expected_BSLK[:, stage].float())
    assert torch.equal(torch.from_numpy(golden["E.struct_feat_stage3"]).float(), expected_BSLK[:, 3].float())


def test_embedding_of_reference_labels(golden: np.lib.npyio.NpzFile) -> None:
    labels_BL = torch.from_numpy(golden["E.split3.labels"]).long()
    assert torch.equal(structure_labels(structure_embedding(labels_BL, 3, 8), 3), labels_BL)
    # Worked example of the paper's equation: K = 8, stage 2, label 2.
    assert structure_embedding(torch.tensor([[2]]), 2, 8).tolist() == [[[2, 0, 1, 1, 1, 1, 1, 1]]]


@pytest.mark.parametrize("stage", [0, 3, 6])
def test_split_equals_the_reference(golden: np.lib.npyio.NpzFile, stage: int) -> None:
    prefix = f"E.split{stage}."
    parent_BL = torch.from_numpy(golden[prefix + "labels"]).long()
    scores_BL = torch.from_numpy(golden[prefix + "scores"])
    assert torch.equal(split_clusters(parent_BL, stage, scores_BL), torch.from_numpy(golden[prefix + "next"]).long())
    # The reference lists the uniforms by parent and member; here they belong to positions.
    uniforms_BL = torch.empty_like(scores_BL)
    uniforms_BL.scatter_(1, parent_BL.argsort(dim=1, stable=True), torch.from_numpy(golden[prefix + "uniform"]).flatten(1))
    expected_BL = torch.from_numpy(golden[prefix + "next_gumbel"]).long()
    assert torch.equal(split_clusters(parent_BL, stage, scores_BL, uniforms_BL), expected_BL)
