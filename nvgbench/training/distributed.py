"""Training with several processes (torchrun): every process has the whole model and a share of each batch.

Objectives yield several losses per step, for several modules, and call methods of modules other than ``forward``, which
`torch.nn.parallel.DistributedDataParallel` does not support. The same arithmetic (mean of the gradients over the processes,
buffers of process 0) is done here after the backward pass, in buckets.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nvgbench.errors import InputError
from nvgbench.types import Share

_BUCKET_BYTES = 25 * 2**20
# Process 0 may tokenize the data set while the others wait.
_TIMEOUT = datetime.timedelta(hours=6)
# What gloo and NCCL say of a process that is gone.
_LOST = re.compile(r"Connection (closed|reset|refused)|Broken pipe|Socket|remote process|NCCL|gloo", re.IGNORECASE)
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Processes:
    """The processes of this training; a single one outside torchrun."""

    rank: int = 0
    world_size: int = 1
    control: Any = None
    """Group of CPU processes for flags and messages, so that the device is not waited for; the default group if None."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.world_size > 1:
            dist.barrier()

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        if self.world_size == 1:
            return flag
        shared = torch.tensor(float(flag))
        dist.all_reduce(shared, op=dist.ReduceOp.MAX, group=self.control)
        return bool(shared.item())

    def first(self, work: Callable[[], _Result]) -> _Result:
        """What ``work`` returns in the first process, which alone calls it while the others wait.

        Raises:
            InputError: in the other processes, if it fails in the first one; that one raises the error itself.
        """
        if self.world_size == 1:
            return work()
        shared: list[Any] = [None, ""]
        failure: Exception | None = None
        if self.is_first:
            try:
                shared[0] = work()
            except Exception as error:
                failure = error
                shared[1] = " ".join(str(error).split()) or type(error).__name__
        dist.broadcast_object_list(shared, src=0, group=self.control)
        if failure is not None:
            raise failure
        if shared[1]:
            raise InputError(shared[1])
        return shared[0]

    def share(self) -> Share:
        """This process's share of work without gradients."""
        if self.world_size == 1:
            return Share()

        def gather(value: Any) -> list[Any]:
            values = [None] * self.world_size
            dist.all_gather_object(values, value)
            return values

        return Share(self.rank, self.world_size, gather)

    def mean(self, values: Tensor) -> Tensor:
        """Mean over the processes, in place."""
        if self.world_size > 1:
            dist.all_reduce(values)
            values /= self.world_size
        return values

    def average_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the processes; a missing gradient counts as zero."""
        if self.world_size == 1:
            return
        for value in parameters:
            if value.grad is None:
                value.grad = torch.zeros_like(value)
        pending = []
        for bucket in _buckets([value.grad for value in reversed(parameters) if value.grad is not None]):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            pending.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
        for bucket, flat, work in pending:
            work.wait()
            flat /= self.world_size
            _spread(flat, bucket)

    def share_state(self, module: nn.Module, buffers_only: bool = False) -> None:
        """Give every process the parameters and buffers of process 0."""
        if self.world_size == 1:
            return
        tensors = list(module.buffers()) if buffers_only else [*module.parameters(), *module.buffers()]
        for bucket in _buckets([tensor.detach() for tensor in tensors]):
            flat = torch.cat([tensor.flatten() for tensor in bucket])
            dist.broadcast(flat, src=0)
            _spread(flat, bucket)


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The tensors in order, in lists of one dtype and about `_BUCKET_BYTES`."""
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        if bucket and (size >= _BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(tensor)
        size += tensor.numel() * tensor.element_size()
    if bucket:
        yield bucket


@torch.no_grad()
def _spread(flat: Tensor, targets: Sequence[Tensor]) -> None:
    for target, part in zip(targets, flat.split([target.numel() for target in targets]), strict=True):
        target.copy_(part.view_as(target))


@contextlib.contextmanager
def join_processes(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes started by torchrun (gloo on CPUs, nccl on CUDA); yields them and this process's device.

    Outside torchrun, or if there is a process group already, none is created.

    Raises:
        InputError: more processes than CUDA devices on this machine.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if dist.is_available() and dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size()), device
        return
    if world_size == 1:
        yield Processes(), device
        return
    if device.type == "cuda":
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise InputError(
                f"torchrun started process {local} on a machine with {torch.cuda.device_count()} CUDA devices; "
                "use --nproc-per-node with at most that many, or `device='cpu'`"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        control = dist.new_group(timeout=_TIMEOUT, backend="gloo") if device.type == "cuda" else None
        yield Processes(dist.get_rank(), dist.get_world_size(), control), device
    except RuntimeError as error:
        if not _LOST.search(str(error)):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"process {dist.get_rank()} lost contact with the others ({reason}); finished work is kept, and "
            "the same call resumes"
        ) from error
    finally:
        dist.destroy_process_group()
