"""Checkpoints: one folder each, which appears complete or not at all.

``checkpoints/<phase>/step-00001000/`` holds ``weights.safetensors`` (the model), ``ema.safetensors`` (its moving average, if
any), a safetensors file for each other trained module, the optimizers' state in ``optimizer.pt`` (until the phase is finished,
or longer on request) and ``state.json``. A sharded training writes folders of `torch.distributed.checkpoint` instead:
``optimizer`` and, until the phase is finished, ``weights-shards``, ``ema-shards`` … of safetensors files.
Batches and random numbers depend on (seed, step) alone, so the step determines the position in the data.
Importing this file does not import torch, so that states of runs can be listed quickly.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import os
import pickle
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from nvgbench.errors import InputError
from nvgbench.files import file_sha256, is_disk_full, write_text
from nvgbench.runs.shards import read_whole

if TYPE_CHECKING:
    import torch
    from torch import Tensor

WEIGHTS, EMA, OPTIMIZER, STATE = "weights.safetensors", "ema.safetensors", "optimizer.pt", "state.json"
OPTIMIZER_SHARDS = "optimizer"
_FOLDER = re.compile(r"step-(\d{8,})")


class VanishedError(InputError):
    """A checkpoint was removed while it was read: a training has written a newer one."""


@dataclass(frozen=True)
class Keep:
    """Which checkpoints of a phase are kept.

    Attributes:
        last: how many of the newest.
        best: also the one with the lowest value of this loss, if given.
    """

    last: int = 1
    best: str | None = None


@dataclass(frozen=True, kw_only=True)
class CheckpointState:
    """Contents of ``state.json``.

    Attributes:
        phase: ``tokenizer`` or ``generator``.
        step: completed training steps.
        total_steps: steps of the whole phase.
        final: whether the phase is finished.
        images: training images seen.
        seconds: time spent training, without interruptions.
        means: sums since the last line of the training log, so that a resumed run logs the same means.
        notes: the objective's notes (which loss network ``auto`` selected …).
        metrics: the losses logged last, by name.
        memory: bytes by part.
        parameters: number of trained parameters of each module.
        source: origin of the weights, for a phase that was not trained here.
        files: SHA-256 of every other file of the checkpoint.
    """

    phase: str
    step: int
    total_steps: int
    final: bool
    images: int = 0
    seconds: float = 0.0
    means: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    parameters: dict[str, int] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    def shards(self, name: str) -> list[str]:
        """The files that hold a safetensors file in shards; none if it is whole, or not there at all."""
        return sorted(file for file in self.files if file.startswith(f"{shards_folder(name)}/"))

    def has(self, name: str) -> bool:
        """Whether the checkpoint has a file, whole or in shards."""
        return name in self.files or bool(self.shards(name))

    def digest(self, name: str) -> str:
        """SHA-256 of a file; of one in shards, of the digests of its shards."""
        shards = self.shards(name)
        return hashlib.sha256("".join(self.files[one] for one in shards).encode()).hexdigest() if shards else self.files[name]


def shards_folder(name: str) -> str:
    """The folder in a checkpoint with the shards of a safetensors file."""
    return f"{name.removesuffix('.safetensors')}-shards"


def save_checkpoint(
    root: Path,
    state: CheckpointState,
    tensors: Mapping[str, Mapping[str, Tensor]],
    optimizers: Mapping[str, Any] | None = None,
    keep: Keep = Keep(),
    shards: Path | None = None,
) -> Path:
    """Write a checkpoint into ``root``, then remove older ones.

    Args:
        root: the phase's folder.
        state: its ``files`` are filled in here.
        tensors: file name -> state dict.
        optimizers: module name -> optimizer state; not needed in the last checkpoint of a phase.
        keep: which of the older ones are kept.
        shards: the folder from `new_shards`, whose contents are moved into the checkpoint.

    Raises:
        OSError: the folder cannot be written or the disk is full; earlier checkpoints are unchanged.
    """
    import torch
    from safetensors import SafetensorError

    root.mkdir(parents=True, exist_ok=True)
    clean(root, keep, spare=shards)
    target = root / f"step-{state.step:08d}"
    temporary = root / f".{target.name}.new"
    try:
        temporary.mkdir()
        for name, tree in tensors.items():
            _save_tensors(tree, temporary / name)
        for part in () if shards is None else shards.iterdir():
            part.rename(temporary / part.name)
        if optimizers is not None:
            torch.save(dict(optimizers), temporary / OPTIMIZER)
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        hashes = {path.relative_to(temporary).as_posix(): file_sha256(path) for path in files}
        text = json.dumps(asdict(state) | {"files": hashes}, indent=1)
        (temporary / STATE).write_text(text, encoding="utf-8")
        for path in temporary.rglob("*"):
            _sync(path)
        _sync(temporary)
        if target.exists():
            _discard(target)
        temporary.rename(target)
        _sync(root)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise _not_written(error, target) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    clean(root, keep)
    return target


def reopen(checkpoint: Path, total_steps: int) -> None:
    """Turn the last checkpoint of a finished phase into one from which the phase continues to ``total_steps``."""
    state = dataclasses.replace(read_state(checkpoint), final=False, total_steps=total_steps)
    write_text(checkpoint / STATE, json.dumps(asdict(state), indent=1))


def find_checkpoint(root: Path, step: int) -> Path | None:
    """The checkpoint of exactly this step."""
    return next((path for path in _folders(root) if _step(path) == step), None)


def kept_steps(root: Path) -> list[int]:
    """The steps of the checkpoints in a phase's folder, in order."""
    return [_step(path) for path in _folders(root)]


def discard_after(root: Path, step: int) -> None:
    """Remove the checkpoints of later steps, the newest first, so that a killed process leaves a state to resume from."""
    for path in reversed(_folders(root)):
        if _step(path) > step:
            _discard(path)


def latest_checkpoint(root: Path) -> Path | None:
    """The checkpoint with the highest step in a phase's folder."""
    found = _folders(root)
    return found[-1] if found else None


def read_state(checkpoint: Path) -> CheckpointState:
    """The state of a checkpoint.

    Raises:
        InputError: ``state.json`` is missing or damaged.
    """
    path = checkpoint / STATE
    try:
        state = TypeAdapter(CheckpointState).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise _damaged(path, "the file is missing") from None
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise _damaged(path, f"{'.'.join(map(str, problem['loc'])) or 'all of it'}: {problem['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    if not state.has(WEIGHTS):
        raise _damaged(path, f"it does not list {WEIGHTS}")
    return state


def load_tensors(checkpoint: Path, name: str, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """A safetensors file of a checkpoint, put together if it is in shards.

    Raises:
        InputError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if shards := read_state(checkpoint).shards(name):
        check_shards(checkpoint, shards)
        folder = checkpoint / shards_folder(name)
        try:
            return read_whole(folder, device)
        except (ValueError, OSError) as error:
            raise _damaged(folder / "*", error) from None
    path = _checked(checkpoint, name)
    try:
        return load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from None


def load_optimizers(checkpoint: Path) -> dict[str, Any]:
    """The optimizers' states, on the CPU.

    Raises:
        InputError: the file is missing or damaged.
    """
    import torch

    path = _checked(checkpoint, OPTIMIZER)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise _damaged(path, error) from None


def new_shards(root: Path, step: int) -> Path:
    """Where a sharded training writes its shards, in folders, before `save_checkpoint` moves them into the checkpoint."""
    return root / f".step-{step:08d}.shards"


def has_optimizers(state: CheckpointState) -> bool:
    """Whether the checkpoint has the optimizers' state, in a file or sharded."""
    return any(name == OPTIMIZER or name.startswith(f"{OPTIMIZER_SHARDS}/") for name in state.files)


def check_shards(checkpoint: Path, names: Iterable[str] | None = None) -> None:
    """Check the shards of these names, or all of the checkpoint.

    Raises:
        InputError: a file is missing or damaged.
    """
    for name in (file for file in read_state(checkpoint).files if "/" in file) if names is None else names:
        _checked(checkpoint, name)


def model_file(checkpoint: Path, ema: bool = True) -> str:
    """Name of the file with the model's weights: the moving average if there is one and ``ema`` is set.

    Raises:
        InputError: ``state.json`` is missing or damaged.
    """
    return EMA if ema and read_state(checkpoint).has(EMA) else WEIGHTS


def clean(root: Path, keep: Keep = Keep(), spare: Path | None = None) -> None:
    """Remove the checkpoints that are not kept, and what killed processes left half written or deleted, except ``spare``."""
    best = None if keep.best is None else best_checkpoint(root, keep.best)
    for path in _folders(root)[: -keep.last]:
        if path != best:
            _discard(path)
    for path in set(root.glob(".step-*")) - {spare}:
        shutil.rmtree(path, ignore_errors=True)


def best_checkpoint(root: Path, metric: str) -> Path | None:
    """The checkpoint with the lowest ``metric``, the earliest of equal ones; None if none has that metric."""
    values = {}
    for path in _folders(root):
        with contextlib.suppress(InputError):  # a damaged one is not the best
            values[path] = read_state(path).metrics.get(metric, math.inf)
    best = min(values, key=lambda path: values[path], default=None)
    return None if best is None or values[best] == math.inf else best


def _step(path: Path) -> int:
    match = _FOLDER.fullmatch(path.name)
    assert match, path
    return int(match[1])


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted((path for path in root.iterdir() if _FOLDER.fullmatch(path.name)), key=_step)


def _save_tensors(tree: Mapping[str, Tensor], path: Path) -> None:
    """safetensors takes contiguous tensors that share no memory."""
    from safetensors.torch import save_file

    seen: set[int] = set()
    plain = {}
    for name, tensor in tree.items():
        value = tensor.detach().cpu().contiguous()
        plain[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    save_file(plain, path)
    path.chmod(0o644)  # safetensors renames a private temporary file


def _not_written(error: Exception, target: Path) -> OSError:
    """The error that stopped the writing, whichever library wrote, with the checkpoint's final name."""
    if is_disk_full(error, target.parent):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
    if isinstance(error, OSError) and error.errno is not None:
        return OSError(error.errno, error.strerror, str(target))
    return OSError(
        errno.EIO, f"could not write the checkpoint of step {target.name.removeprefix('step-')} ({error})", str(target)
    )


def _checked(checkpoint: Path, name: str) -> Path:
    path = checkpoint / name
    expected = read_state(checkpoint).files.get(name)
    try:
        found = file_sha256(path)
    except FileNotFoundError:
        found = None
    if found is None or expected is None:
        raise _damaged(path, "the file is missing")
    if found != expected:
        raise _damaged(path, "its SHA-256 differs from the one in state.json")
    return path


def _damaged(path: Path, reason: object) -> InputError:
    checkpoint = path.parent if _FOLDER.fullmatch(path.parent.name) else path.parent.parent
    if not checkpoint.exists():
        return VanishedError(f"{checkpoint} was removed while it was read; try again")
    others = [folder for folder in _folders(checkpoint.parent) if folder != checkpoint]
    then = f"resumes from {others[-1].name}" if others else f"repeats the {checkpoint.parent.name}"
    remedy = f"remove the folder {checkpoint}, and the training {then}"
    if path.name == EMA and _is_whole(checkpoint / WEIGHTS):
        remedy = f"the plain weights are intact: use them with `weights='plain'`, or {remedy}"
    return InputError(f"{path} is damaged ({reason}); {remedy}")


def _is_whole(path: Path) -> bool:
    try:
        return file_sha256(path) == read_state(path.parent).files.get(path.name)
    except (OSError, InputError):
        return False


def _discard(path: Path) -> None:
    """Remove a checkpoint without exposing a partial one to readers."""
    hidden = path.with_name(f".{path.name}.old")
    shutil.rmtree(hidden, ignore_errors=True)
    path.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
