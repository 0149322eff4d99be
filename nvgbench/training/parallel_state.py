"""Weights and optimizer states of sharded modules, to and from checkpoints. Tensors that are not sharded pass unchanged."""

from __future__ import annotations

import contextlib
import errno
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.training.distributed import Processes

States = Mapping[str, Mapping[int, Mapping[str, Tensor]]]
"""Module name -> number of the parameter -> name of the entry -> tensor, as in the state dicts of optimizers."""


def whole(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor, on its device; every process must call this."""
    return cast(Any, tensor).full_tensor() if _is_sharded(tensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """This process's share of a sharded tensor."""
    return cast(Any, tensor).to_local() if _is_sharded(tensor) else tensor


def gather(state: Mapping[str, Tensor], keep: bool) -> dict[str, Tensor]:
    """A state dict with whole tensors, those that were sharded on the CPU; every process must call this.

    Args:
        state: of tensors, sharded or not.
        keep: whether this process needs the result; the others get an empty one.
    """
    found = {}
    for name, tensor in state.items():
        value = whole(tensor)
        if keep:
            found[name] = value.cpu() if _is_sharded(tensor) else value
    return found


def scatter(state: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors, the same in every process, sharded as those of the same name in ``like``."""
    return {name: _shard(value, like[name]) if name in like else value for name, value in state.items()}


def scatter_optimizer(state: Mapping[str, Any], parameters: Mapping[int, Tensor]) -> dict[str, Any]:
    """The state dict of an optimizer of whole parameters, sharded as ``parameters``, which are given by number."""
    entries = {
        number: {key: value if value.ndim == 0 else _shard(value, parameters[number]) for key, value in own.items()}
        for number, own in state["state"].items()
    }
    return {**state, "state": entries}


def save_optimizers(folder: Path, states: States, processes: Processes) -> None:
    """Write optimizer states into ``folder``, each process its shards (`torch.distributed.checkpoint`).

    Raises:
        OSError: a process could not write.
    """
    import torch.distributed.checkpoint as dcp

    with _written(folder, "optimizers' state"):
        dcp.save(_flat(states), checkpoint_id=folder, process_group=processes.control)


def save_weights(folder: Path, state: Mapping[str, Tensor], processes: Processes) -> None:
    """Write a state dict into ``folder`` as safetensors files, each process its shards; see `nvgbench.runs.shards`.

    Raises:
        OSError: a process could not write.
    """
    import torch.distributed.checkpoint as dcp

    writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    with _written(folder, "weights"):
        dcp.save(dict(state), storage_writer=writer, process_group=processes.control)


@contextlib.contextmanager
def _written(folder: Path, what: str) -> Iterator[None]:
    """Turns what `torch.distributed.checkpoint` raises into the error of the file system behind it."""
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except CheckpointException as error:
        cause = next(iter(error.failures.values()))[0]
        number = getattr(cause, "errno", None) or errno.EIO
        raise OSError(number, f"could not write the {what} ({cause})", str(folder)) from error


def new_folder(folder: Path, processes: Processes) -> Path:
    """``folder``, empty, for what all processes are about to write."""

    def make() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    processes.first(make)
    return folder


def load_optimizers(folder: Path, parameters: Mapping[str, Mapping[int, Tensor]], processes: Processes) -> States:
    """The optimizer states in a folder, whatever the number of processes that wrote them.

    Args:
        folder: written by `save_optimizers`.
        parameters: by module and number; states are sharded in the same way.
        processes: those that call this.

    Raises:
        InputError: the files are damaged.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        saved = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
        states = {
            module: {
                number: {
                    # The count of steps is a scalar; everything else has the shape of the parameter.
                    key: torch.zeros(()) if key == "step" else torch.zeros_like(value)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                    if _key(module, number, key) in saved
                }
                for number, value in own.items()
            }
            for module, own in parameters.items()
        }
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")
            alone = processes.world_size == 1
            dcp.load(_flat(states), checkpoint_id=folder, process_group=processes.control, no_dist=alone)
    except (CheckpointException, OSError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{folder} is damaged ({error}); remove {folder.parent}, and the training resumes from another"
        ) from error
    return {module: {number: entry for number, entry in own.items() if entry} for module, own in states.items()}


def _flat(states: States) -> dict[str, Any]:
    return {
        _key(module, number, key): value
        for module, own in states.items()
        for number, entry in own.items()
        for key, value in entry.items()
    }


def _key(module: str, number: int, key: str) -> str:
    return f"{module}.{number}.{key}"


def _is_sharded(tensor: Tensor) -> bool:
    """Whether it is a DTensor, whose class takes long to import."""
    return hasattr(tensor, "full_tensor")


def _shard(value: Tensor, like: Tensor) -> Tensor:
    if not _is_sharded(like) or _is_sharded(value):
        return value
    from torch.distributed.tensor import DTensor, distribute_tensor

    # Without a source rank, each process takes its share of its own copy, and none is sent.
    sharded = cast(DTensor, like)
    return distribute_tensor(value.to(like.device), sharded.device_mesh, sharded.placements, src_data_rank=None)
