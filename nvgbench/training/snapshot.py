"""What a checkpoint holds of a training in progress: modules, moving average, optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.interfaces import Objective
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.shards import read_shards
from nvgbench.training.distributed import Processes
from nvgbench.training.ema import Ema
from nvgbench.training.optimizer import ModuleOptimizer, parameter_counts
from nvgbench.training.parallel_state import gather, load_optimizers, new_folder, save_optimizers, save_weights, scatter


@dataclass(frozen=True, kw_only=True)
class Snapshots:
    """Writes the state of a training to checkpoints, and restores it.

    Attributes:
        folder: of the phase's checkpoints.
        objective: its first module is the model.
        optimizers: by module.
        ema: average of the model, if any.
        keep: which checkpoints are kept.
        keep_optimizer: whether the last checkpoint of the phase has the optimizers' state.
        processes: those that train together.
        sharded: whether each of them has a share of the state only.
    """

    folder: Path
    objective: Objective
    optimizers: Mapping[str, ModuleOptimizer]
    ema: Ema | None
    keep: ckpt.Keep
    keep_optimizer: bool
    processes: Processes
    sharded: bool

    @property
    def parameters(self) -> dict[str, int]:
        """Number of trained parameters of each module."""
        return parameter_counts(self.objective.modules, self.objective.training_only)

    def save(self, state: ckpt.CheckpointState) -> None:
        """Write a checkpoint; every process must call this.

        Every process of a sharded training writes its share. Only the weights and averages of a finished phase are gathered,
        by the first process, into whole files.

        Raises:
            OSError: it cannot be written; earlier ones are unchanged.
        """
        first = self.processes.is_first
        if not first and not self.sharded:
            return
        tensors = {self._file(name): module.state_dict() for name, module in self.objective.modules.items()}
        if self.ema is not None:
            tensors[ckpt.EMA] = self.ema.state_dict()
        optimizers: Mapping[str, Any] | None = None
        if not state.final or self.keep_optimizer:
            optimizers = {name: item.state_dict() for name, item in self.optimizers.items()}
        shards: Path | None = None
        if self.sharded:
            shards = new_folder(ckpt.new_shards(self.folder, state.step), self.processes)
            if optimizers is not None:
                states = {name: own["state"] for name, own in optimizers.items()}
                save_optimizers(shards / ckpt.OPTIMIZER_SHARDS, states, self.processes)
                optimizers = None
            if state.final:
                tensors = {file: gather(own, first) for file, own in tensors.items()}
            else:
                for file, own in tensors.items():
                    save_weights(shards / ckpt.shards_folder(file), own, self.processes)
                tensors = {}
        if first:
            ckpt.save_checkpoint(self.folder, state, tensors, optimizers, self.keep, shards)

    def restore(self, device: torch.device) -> ckpt.CheckpointState | None:
        """Load the last checkpoint and return its state; None if there is none.

        Optimizers that were not kept start anew.

        Raises:
            InputError: it is damaged, or of other modules.
        """
        found = ckpt.latest_checkpoint(self.folder)
        if found is None:
            return None
        state = ckpt.read_state(found)
        _check_same_modules(found, state.parameters, self.parameters)
        self.processes.first(lambda: ckpt.check_shards(found))
        for name, module in self.objective.modules.items():
            module.load_state_dict(self._tensors(found, state, self._file(name), module.state_dict()))
        if self.ema is not None:
            self.ema.load_state_dict(self._tensors(found, state, ckpt.EMA, self.ema.state_dict(), device))
        if ckpt.OPTIMIZER in state.files:
            for name, saved in ckpt.load_optimizers(found).items():
                self.optimizers[name].load_state_dict(saved)
        elif ckpt.has_optimizers(state):
            parameters = {name: item.numbered for name, item in self.optimizers.items()}
            for name, entries in load_optimizers(found / ckpt.OPTIMIZER_SHARDS, parameters, self.processes).items():
                self.optimizers[name].load_state_dict({"state": entries})
        return state

    def _tensors(
        self,
        found: Path,
        state: ckpt.CheckpointState,
        file: str,
        like: Mapping[str, Tensor],
        device: torch.device | str = "cpu",
    ) -> dict[str, Tensor]:
        """A file of weights, sharded as the tensors of the same name in ``like``."""
        if not state.shards(file):
            return scatter(ckpt.load_tensors(found, file, device), like)
        folder = found / ckpt.shards_folder(file)
        tensors = {name: torch.empty_like(value) for name, value in like.items()}
        try:
            read_shards(folder, tensors)
        except (ValueError, OSError) as error:
            raise InputError(f"{folder} is damaged ({error}); remove {found}, and the training resumes from another") from error
        return tensors

    def _file(self, name: str) -> str:
        return ckpt.WEIGHTS if name == next(iter(self.objective.modules)) else f"{name}.safetensors"


def _check_same_modules(checkpoint: Path, there: dict[str, int], here: dict[str, int]) -> None:
    """Refuse to resume with other modules than those of the checkpoint."""
    if there != here:
        before, now = (", ".join(f"{name} ({count:,} parameters)" for name, count in parts.items()) for parts in (there, here))
        raise InputError(
            f"{checkpoint} was written by a training of {before} and cannot be resumed with {now}: optional weights that a "
            "setting 'auto' looks for have appeared or disappeared; restore the former state, or use another `name=`"
        )
