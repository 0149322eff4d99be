"""The hierarchy by each implementation against a loop of first argmins, one pair at a time: ``pytest benchmarks``.

All run in one session on the same latents and on one thread, so that their ratios can be read off one table.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from nvgbench.nvg.clustering import backends, batched, build_structure
from nvgbench.nvg.clustering.lattice import integer_points
from nvgbench.nvg.sequential import sequential_order, structure_of_order

POSITIONS, CHANNELS = 256, 32


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def latents(batch: int) -> Tensor:
    return torch.randn(batch, POSITIONS, CHANNELS, generator=torch.Generator().manual_seed(0))


def argmin_loop(latent_BLC: Tensor) -> Tensor:
    """Algorithm 1 as the paper writes it, image by image."""
    return structure_of_order(torch.stack([sequential_order(points_LC) for points_LC in latent_BLC.double()]))


def tensor_operations(latent_BLC: Tensor) -> Tensor:
    return batched.finest_maps(integer_points(latent_BLC), "xor")


IMPLEMENTATIONS = {"argmin_loop": argmin_loop, "tensor_operations": tensor_operations, "build_structure": build_structure}


def test_all_agree() -> None:
    latent_BLC = latents(2)
    structure_BSL = build_structure(latent_BLC)
    assert torch.equal(argmin_loop(latent_BLC), structure_BSL)
    assert torch.equal(tensor_operations(latent_BLC), structure_BSL[:, -1])


@pytest.mark.benchmark(group="hierarchy, 256 tokens of 32 channels")
@pytest.mark.parametrize("batch", [1, 4, 64])
@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_hierarchy(benchmark: Any, name: str, batch: int) -> None:
    if name == "argmin_loop" and batch > 4:
        pytest.skip("minutes")
    benchmark.extra_info["images"] = batch
    benchmark.pedantic(IMPLEMENTATIONS[name], args=(latents(batch),), rounds=5, warmup_rounds=1)


@pytest.mark.parametrize("name", ["tensor_operations", "build_structure"])
def test_ratio_to_the_argmin_loop(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """CPU time of this process for one image, alternating, so that others on the machine disturb both alike."""
    latent_BLC = latents(1)
    ratios = sorted(
        _cpu_seconds(argmin_loop, latent_BLC, 1) / _cpu_seconds(IMPLEMENTATIONS[name], latent_BLC, 20) for _ in range(9)
    )
    fast = backends.fast_implementation("cpu")
    how = fast.__name__ if fast and name == "build_structure" else "tensor operations"
    with capsys.disabled():
        print(f"\none image by {how}: {ratios[4]:.0f} times the argmin loop ({ratios[0]:.0f} to {ratios[-1]:.0f})")


def _cpu_seconds(build: Callable[[Tensor], Tensor], latent_BLC: Tensor, repeats: int) -> float:
    build(latent_BLC)
    began = time.process_time()
    for _ in range(repeats):
        build(latent_BLC)
    return (time.process_time() - began) / repeats
