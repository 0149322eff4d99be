"""What a checkpoint holds of a training in progress: modules, moving average, optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from nvgbench.errors import InputError
from nvgbench.interfaces import Objective
from nvgbench.runs import checkpoint as ckpt
from nvgbench.training.ema import Ema
from nvgbench.training.optimizer import ModuleOptimizer, parameter_counts


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
    """

    folder: Path
    objective: Objective
    optimizers: Mapping[str, ModuleOptimizer]
    ema: Ema | None
    keep: ckpt.Keep
    keep_optimizer: bool

    @property
    def parameters(self) -> dict[str, int]:
        """Number of trained parameters of each module."""
        return parameter_counts(self.objective.modules, self.objective.training_only)

    def save(self, state: ckpt.CheckpointState) -> None:
        """Write a checkpoint.

        Raises:
            OSError: it cannot be written; earlier ones are unchanged.
        """
        tensors = {self._file(name): module.state_dict() for name, module in self.objective.modules.items()}
        if self.ema is not None:
            tensors[ckpt.EMA] = self.ema.state_dict()
        optimizers = None
        if not state.final or self.keep_optimizer:
            optimizers = {name: item.state_dict() for name, item in self.optimizers.items()}
        ckpt.save_checkpoint(self.folder, state, tensors, optimizers, self.keep)

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
        for name, module in self.objective.modules.items():
            module.load_state_dict(ckpt.load_tensors(found, self._file(name)))
        if self.ema is not None:
            self.ema.load_state_dict(ckpt.load_tensors(found, ckpt.EMA, device))
        if ckpt.OPTIMIZER in state.files:
            for name, saved in ckpt.load_optimizers(found).items():
                self.optimizers[name].load_state_dict(saved)
        return state

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
