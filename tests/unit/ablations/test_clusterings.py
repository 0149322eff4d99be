"""SLIC of latents: numbers of clusters, and what it follows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nvgbench.ablations.clusterings import nested, slic


def _subject(side: int) -> Any:
    tokens = tuple(2**power for power in range((side * side).bit_length()))
    return SimpleNamespace(grid=(side, side), positions=side * side, group_size=2, tokens=lambda: tokens)


@pytest.mark.parametrize("side", [4, 8, 16])
def test_every_stage_has_its_number_of_clusters(side: int) -> None:
    rng = torch.Generator().manual_seed(0)
    maps = slic(_subject(side), torch.randn(2, 4, side, side, generator=rng), rng)
    assert {tokens: {len(labels_L.unique()) for labels_L in labels_BL} for tokens, labels_BL in maps.items()} == {
        tokens: {tokens} for tokens in _subject(side).tokens()[1:-1]
    }


def test_it_follows_features_and_without_them_the_grid() -> None:
    rng, subject = torch.Generator(), _subject(8)
    latent_1Chw = torch.zeros(1, 1, 8, 8)
    assert all(
        torch.equal(labels_BL, nested("quadtree")(subject, latent_1Chw, rng)[tokens])
        for tokens, labels_BL in slic(subject, latent_1Chw, rng).items()
    )
    latent_1Chw[..., :3] = 1.0  # columns 0 to 2 against 3 to 7: no cut of the quadtree
    for labels_BL in list(slic(subject, latent_1Chw, rng).values())[1:]:
        left, right = labels_BL.unflatten(1, (8, 8))[0].split((3, 5), dim=1)
        assert not set(left.flatten().tolist()) & set(right.flatten().tolist())
