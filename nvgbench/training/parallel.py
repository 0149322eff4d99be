"""How several processes train one module together: every process has all of it (DDP)."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nvgbench.training.distributed import Processes


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
        for buffer in self.module.buffers():
            dist.broadcast(buffer, src=0)


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


def parallelize(module: nn.Module, processes: Processes) -> Parallel:
    """Prepare a module for training with these processes.

    Args:
        module: on its device, with frozen parameters marked, before its optimizer is created.
        processes: those that train it together.
    """
    return Parallel(module) if processes.world_size == 1 else Replicated(module)
