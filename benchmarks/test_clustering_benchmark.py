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
from nvgbench.nvg.sequential import sequential_order, structure_of_order

BATCH, POSITIONS, CHANNELS = 4, 256, 32


@pytest.fixture(scope="module")
def latents() -> Tensor:
    return torch.randn(BATCH, POSITIONS, CHANNELS, generator=torch.Generator().manual_seed(0))


def argmin_loop(points_BLC: Tensor) -> Tensor:
    """Algorithm 1 as the paper writes it, image by image."""
    return structure_of_order(torch.stack([sequential_order(points_LC) for points_LC in points_BLC.double()]))


def test_the_two_agree(latents: Tensor) -> None:
    assert torch.equal(argmin_loop(latents[:1]), build_structure(latents[:1]))


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
