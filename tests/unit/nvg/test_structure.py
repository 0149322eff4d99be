"""Structure embedding and the balanced split."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nvgbench.errors import InputError
from nvgbench.nvg.clustering import build_structure
from nvgbench.nvg.structure import split_clusters, structure_embedding, structure_labels


def random_stages(seed: int, batch: int = 2, length: int = 64) -> torch.Tensor:
    return build_structure(torch.zeros(batch, length, 1), method="random", generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("stage", range(7))
def test_embedding_round_trip_and_prefix(stage: int) -> None:
    structure_BSL = random_stages(0)
    se_BLK = structure_embedding(structure_BSL[:, stage], stage, 6)
    assert se_BLK.dtype == torch.float32
    assert torch.equal(structure_labels(se_BLK, stage), structure_BSL[:, stage])
    assert (se_BLK == 1).sum(-1).unique().tolist() == [6 - stage]
    finest_BLK = structure_embedding(structure_BSL[:, 6], 6, 6)
    assert torch.equal(se_BLK[..., :stage], finest_BLK[..., :stage])


@settings(max_examples=60, deadline=None)
@given(data=st.data(), stages=st.integers(1, 8), width=st.integers(0, 2))
def test_embedding_is_inverted_for_any_map(data: st.DataObject, stages: int, width: int) -> None:
    """Also for maps that no clustering produces: the embedding is one-to-one, its channels are the bits of equation 6."""
    labels = data.draw(hnp.arrays(np.int64, (2, 16), elements=st.integers(0, 2**stages - 1)))
    se_BLK = structure_embedding(torch.from_numpy(labels), stages, stages + width)
    assert torch.equal(structure_labels(se_BLK, stages), torch.from_numpy(labels))
    bits = [[[2 * int(bit) for bit in f"{label:0{stages}b}"] for label in row] for row in labels.tolist()]
    assert se_BLK[..., :stages].tolist() == bits
    assert (se_BLK[..., stages:] == 1).all()


@pytest.mark.parametrize("stage", [-1, 7])
def test_embedding_refuses_stages_that_do_not_exist(stage: int) -> None:
    with pytest.raises(InputError):
        structure_embedding(torch.zeros(1, 64, dtype=torch.int64), stage, 6)
    with pytest.raises(InputError):
        structure_labels(torch.ones(1, 64, 6), stage)


@settings(max_examples=60, deadline=None)
@given(
    scores=hnp.arrays(np.float32, (2, 64), elements=st.floats(width=32) | st.just(0.5)),
    uniforms=st.none() | hnp.arrays(np.float32, (2, 64), elements=st.sampled_from([0.0, 0.5, float(np.nextafter(1, 0)), 1.0])),
    stage=st.integers(0, 5),
)
def test_split_takes_exactly_half_for_any_scores(scores: np.ndarray, uniforms: np.ndarray | None, stage: int) -> None:
    parent_BL = random_stages(1)[:, stage]
    noise_BL = None if uniforms is None else torch.from_numpy(uniforms)
    child_BL = split_clusters(parent_BL, stage, torch.from_numpy(scores), uniforms_BL=noise_BL)
    assert torch.equal(child_BL // 2, parent_BL)
    for row_L in child_BL:
        assert row_L.bincount(minlength=2 ** (stage + 1)).unique().tolist() == [64 // 2 ** (stage + 1)]


def test_split_recovers_a_structure_from_its_embedding() -> None:
    structure_BSL = random_stages(2)
    truth_BLK = structure_embedding(structure_BSL[:, 6], 6, 6) - 1
    for stage in range(6):
        assert torch.equal(split_clusters(structure_BSL[:, stage], stage, truth_BLK[..., stage]), structure_BSL[:, stage + 1])


def test_ties_go_by_raster_index() -> None:
    parent_BL = torch.zeros(1, 8, dtype=torch.int64)
    scores_BL = torch.tensor([[3.0, -1.0, 1.0, 2.0, 1.5, 1.0, 0.0, -5.0]])
    assert split_clusters(parent_BL, 0, scores_BL)[0].tolist() == [1, 0, 1, 1, 1, 0, 0, 0]


def test_gumbel_split_follows_the_scores_in_frequency() -> None:
    # Two members of one parent: the odd child is the first with probability p1 / (p1 + p2) = 1.5 / 2.
    parent_BL = torch.zeros(4000, 2, dtype=torch.int64)
    scores_BL = torch.tensor([[0.5, -0.5]]).expand(4000, 2)
    uniforms_BL = torch.rand(4000, 2, generator=torch.Generator().manual_seed(0))
    share = split_clusters(parent_BL, 0, scores_BL, uniforms_BL=uniforms_BL)[:, 0].float().mean()
    assert abs(share - 0.75) < 0.03  # more than four standard errors
    again_BL = split_clusters(parent_BL, 0, scores_BL, torch.Generator().manual_seed(0))
    assert torch.equal(again_BL[:, 0].float().mean(), share)


def test_split_refuses_what_cannot_be_halved() -> None:
    parent_BL = torch.zeros(1, 8, dtype=torch.int64)
    with pytest.raises(InputError, match="cannot be halved"):
        split_clusters(parent_BL, 3, torch.zeros(1, 8))
    with pytest.raises(InputError, match="the same shape"):
        split_clusters(parent_BL, 0, torch.zeros(1, 4))
    noise = torch.Generator().manual_seed(0)
    with pytest.raises(InputError, match="not both"):
        split_clusters(parent_BL, 0, torch.zeros(1, 8), noise, uniforms_BL=torch.rand(1, 8))
