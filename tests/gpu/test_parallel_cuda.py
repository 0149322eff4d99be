"""Both ways of training on several devices, with NCCL and a single one: the code of many, the numbers of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from nvgbench.runs.shards import read_whole
from nvgbench.training.distributed import Processes
from nvgbench.training.optimizer import ModuleOptimizer
from nvgbench.training.parallel import Parallel, Replicated, Sharded
from nvgbench.training.parallel_state import gather, load_optimizers, save_optimizers, save_weights
from tests.helpers.toy_objective import phase_config

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEVICE = "cuda"


@pytest.fixture(autouse=True)
def _process_group() -> Iterator[None]:
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def _module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.BatchNorm1d(96), nn.Linear(96, 32)).to(DEVICE)


def _sharded(module: nn.Module) -> Parallel:
    return Sharded(module, [], world_size=1)


def _train(optimizer: ModuleOptimizer, parallel: Parallel, steps: range) -> None:
    for step in steps:
        parallel.share_buffers()
        for part in (0, 1):
            x = torch.randn(16, 64, generator=torch.Generator().manual_seed(2 * step + part)).to(DEVICE)
            with torch.autocast(DEVICE, dtype=torch.bfloat16):
                loss = parallel.module(x).float().square().mean()
            optimizer.backward(loss / 2, last=part == 1)
        optimizer.step(1e-2, 0.05)


@pytest.mark.parametrize("make", [Replicated, _sharded])
def test_weights_equal_those_of_a_single_process(make: Callable[[nn.Module], Parallel], tmp_path: Path) -> None:
    weights = []
    for prepare in (Parallel, make):
        parallel = prepare(_module())
        optimizer = ModuleOptimizer(parallel, phase_config())
        _train(optimizer, parallel, range(3))
        if prepare is make:  # on through a checkpoint of the optimizer
            save_optimizers(tmp_path / "optimizer", {"model": optimizer.state_dict()["state"]}, Processes())
            states = load_optimizers(tmp_path / "optimizer", {"model": optimizer.numbered}, Processes())
            optimizer = ModuleOptimizer(parallel, phase_config())
            optimizer.load_state_dict({"state": states["model"]})
        _train(optimizer, parallel, range(3, 6))
        weights.append(gather(parallel.module.state_dict(), keep=True))
    save_weights(tmp_path / "weights", parallel.module.state_dict(), Processes())
    for name, value in read_whole(tmp_path / "weights", "cpu").items():
        assert torch.equal(value, weights[1][name].cpu()), name
    for name, value in weights[0].items():
        # The same kernels on the same numbers; only the norm for clipping may be summed in another order.
        torch.testing.assert_close(weights[1][name].cpu(), value.cpu(), rtol=1e-4, atol=1e-5, msg=name)
