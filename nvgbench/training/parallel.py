"""How several processes train modules together: each has all weights (DDP), or a share of every weight (FSDP)."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nvgbench.errors import InputError
from nvgbench.interfaces import ShardedUnits
from nvgbench.training.distributed import Processes

Mode = Literal["ddp", "fsdp"]


class Parallel:
    """Gradients of one trained module; this base class is for a single process.

    Args:
        module: on its device, with frozen parameters marked.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.parameters: Sequence[nn.Parameter] = [value for value in module.parameters() if value.requires_grad]

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """Accumulate the gradients of ``loss`` with respect to this module's parameters only.

        Args:
            loss: of this process's share of the batch.
            last: whether the step has no other loss for this module; afterwards the gradients are means over the processes.
        """
        loss.backward(inputs=self.parameters)

    def share_buffers(self) -> None:
        """Give every process the buffers of the first one."""


class Replicated(Parallel):
    """`torch.nn.parallel.DistributedDataParallel`; every process starts with the weights of the first one.

    Objectives call any method of any module before they yield a loss, so DDP cannot wrap those calls. It does not have to: the
    loss itself passes through a replica whose forward is the identity. From there DDP finds the parameters that the loss
    depends on, and averages their gradients while the backward pass computes the others.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module)
        # A loss may depend on some of the parameters only.
        self._replica = DistributedDataParallel(_LossOf(module), find_unused_parameters=True, gradient_as_bucket_view=True)
        self.share_buffers()

    def backward(self, loss: Tensor, last: bool = True) -> None:
        with contextlib.nullcontext() if last else self._replica.no_sync():
            super().backward(self._replica(loss))

    def share_buffers(self) -> None:
        _from_first(self.module.buffers())


class _LossOf(nn.Module):
    """Passes on a loss that was computed with ``module``.

    It has the module's parameters but not its buffers, which DDP would overwrite between the forward and the backward pass.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        parameters = list(module.parameters())
        self.weights = nn.ParameterList(parameters)
        # DDP warns on every process, past Python's filters, if it looks for unused parameters and finds none.
        self.unused = nn.Parameter(torch.zeros(1, device=parameters[0].device))

    def forward(self, loss: Tensor) -> Tensor:
        return loss


class Sharded(Parallel):
    """`torch.distributed.fsdp.fully_shard`: every process holds a share of each weight, gradient and optimizer state.

    The weights of a unit are gathered while it computes. Units are what the module lists in ``sharded_units()`` (see
    `nvgbench.interfaces.ShardedUnits`), and the module with the rest of its weights.

    Args:
        module: whose weights become `torch.distributed.tensor.DTensor`, starting with those of the first process.
        others: the modules trained beside it.
        world_size: number of processes.

    Raises:
        InputError: a parameter is a scalar, which cannot be shared out.
    """

    def __init__(self, module: nn.Module, others: Collection[nn.Module], world_size: int) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        _from_first((*module.parameters(), *module.buffers()))
        mesh = init_device_mesh(next(module.parameters()).device.type, (world_size,))
        # Outputs are often views; objectives do not change them in place, see `nvgbench.interfaces.Objective.losses`.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
        units = cast(ShardedUnits, module).sharded_units() if isinstance(module, ShardedUnits) else []
        try:
            for unit in (*units, module):
                fully_shard(unit, mesh=mesh, reshard_after_forward=True)
        except ValueError as error:
            raise InputError(f"`train.parallel` = 'fsdp': {error}; use 'ddp'") from error
        super().__init__(module)
        self._others = others

    def backward(self, loss: Tensor, last: bool = True) -> None:
        """Gradients are averaged after every loss, so that no process ever holds all of them."""
        # The leaves of the graph are gathered weights, which cannot be named as inputs of the backward pass.
        loss.backward()
        for other in self._others:
            other.zero_grad(set_to_none=True)

    def share_buffers(self) -> None:
        _from_first(self.module.buffers())


@torch.no_grad()
def _from_first(tensors: Iterable[Tensor]) -> None:
    """Give every process the values of the first one."""
    for tensor in tensors:
        dist.broadcast(tensor, src=0)


def parallelize(modules: Mapping[str, nn.Module], processes: Processes, mode: Mode = "ddp") -> dict[str, Parallel]:
    """Prepare modules for training with these processes; a single one needs neither mode.

    Args:
        modules: by name, on their device, with frozen parameters marked, before their optimizers are created.
        processes: those that train together.
        mode: how.
    """
    if processes.world_size == 1:
        return {name: Parallel(module) for name, module in modules.items()}
    if mode == "ddp":
        return {name: Replicated(module) for name, module in modules.items()}
    return {
        name: Sharded(module, [other for other in modules.values() if other is not module], processes.world_size)
        for name, module in modules.items()
    }
