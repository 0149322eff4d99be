"""The batched hierarchy against a loop of first argmins, one pair at a time: ``pytest benchmarks --benchmark-only``.

Both run in one session on the same latents, so that their ratio can be read off one table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from nvgbench.nvg.clustering import build_structure

BATCH, POSITIONS, CHANNELS = 4, 256, 32


@pytest.fixture(scope="module")
def latents() -> Tensor:
    return torch.randn(BATCH, POSITIONS, CHANNELS, generator=torch.Generator().manual_seed(0))


def argmin_loop(points_BLC: Tensor) -> Tensor:
    """One level after the other, one argmin over the whole matrix a pair; finest labels ``[B, L]``."""
    batch = len(points_BLC)
    rows_B = torch.arange(batch)
    sums_BnC, levels = points_BLC.double(), []
    while (count := sums_BnC.shape[1]) > 1:
        distance_Bnn = torch.cdist(sums_BnC, sums_BnC, compute_mode="donot_use_mm_for_euclid_dist")
        distance_Bnn.diagonal(dim1=1, dim2=2).fill_(torch.inf)
        pairs = []
        for _ in range(count // 2):
            flat_B = distance_Bnn.flatten(1).argmin(1)
            pair_B2 = torch.stack((flat_B // count, flat_B % count), dim=1)
            for side in (0, 1):
                distance_Bnn[rows_B, pair_B2[:, side]] = torch.inf
                distance_Bnn[rows_B, :, pair_B2[:, side]] = torch.inf
            pairs.append(pair_B2)
        pairs_Bm2 = torch.stack(pairs, dim=1)
        levels.append(pairs_Bm2)
        sums_BnC = sums_BnC[rows_B[:, None, None], pairs_Bm2].sum(2)
    order_Bn = torch.zeros((batch, 1), dtype=torch.int64)
    for pairs_Bm2 in reversed(levels):
        order_Bn = pairs_Bm2[rows_B[:, None], order_Bn].flatten(1)
    return order_Bn.argsort(dim=1)


def test_the_two_agree(latents: Tensor) -> None:
    assert torch.equal(argmin_loop(latents[:1]), build_structure(latents[:1])[:, -1])


@pytest.mark.benchmark(group="hierarchy of 4 images, 256 tokens of 32 channels")
@pytest.mark.parametrize("build", [build_structure, argmin_loop], ids=["build_structure", "argmin_loop"])
def test_hierarchy(benchmark: Any, latents: Tensor, build: Callable[[Tensor], Tensor]) -> None:
    benchmark.pedantic(build, args=(latents,), rounds=5, warmup_rounds=1)


@pytest.mark.benchmark(group="hierarchy, images a batch")
@pytest.mark.parametrize("batch", [1, 16, 64])
def test_batch_size(benchmark: Any, batch: int) -> None:
    latent_BLC = torch.randn(batch, POSITIONS, CHANNELS, generator=torch.Generator().manual_seed(0))
    benchmark.extra_info["images"] = batch
    benchmark.pedantic(build_structure, args=(latent_BLC,), rounds=3, warmup_rounds=1)
