"""The training loop, the same for every objective."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nvgbench.config.schema import PhaseConfig
from nvgbench.errors import InputError
from nvgbench.interfaces import Objective, Progress
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.seeding import reseed
from nvgbench.training.batches import split, to_device
from nvgbench.training.distributed import Processes
from nvgbench.training.ema import Ema
from nvgbench.training.frozen import freeze
from nvgbench.training.interrupt import Interrupted, StopSignal
from nvgbench.training.log import TrainLog
from nvgbench.training.optimizer import ModuleOptimizer, parameter_counts
from nvgbench.training.precision import Precision, autocast, repeatable
from nvgbench.training.schedule import learning_rate, weight_decay
from nvgbench.training.tally import Tally

# On an accelerator, losses are fetched at most this many steps late, so that the device does not wait for Python.
_SETTLE_EVERY = 20
# Steps between checks whether one of several processes was told to stop.
_STOP_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class LoopSettings:
    """What a loop needs besides its objective.

    Attributes:
        phase: its name, for folders, logs and seeds.
        config: optimizer, schedule and batch.
        total_steps: length of the training.
        seed: of the run.
        folder: of the phase's checkpoints.
        log: the run's training log.
        device: where the modules are.
        progress: called after every step with phase, done, total, and with losses and images_per_second if a line is logged.
        precision: see `nvgbench.training.precision`.
        log_every, checkpoint_every: in steps.
        processes: those that train together.
        stop: checked after every step.
    """

    phase: str
    config: PhaseConfig
    total_steps: int
    seed: int
    folder: Path
    log: TrainLog
    device: torch.device
    progress: Progress
    precision: Precision = "auto"
    log_every: int = 50
    checkpoint_every: int = 5000
    processes: Processes = field(default_factory=Processes)
    stop: StopSignal = field(default_factory=StopSignal)


class TrainingLoop:
    """Trains the modules of an objective; resumes from the last checkpoint if there is one."""

    def __init__(self, objective: Objective, settings: LoopSettings) -> None:
        """The objective's modules are moved to the device here.

        Raises:
            InputError: the batch cannot be divided as configured; the patterns of frozen parameters do not fit; the last
                checkpoint is damaged, or of other modules.
        """
        self.objective = objective
        self.settings = settings
        self.micro_batch = _micro_batch(settings)
        self.step = 0
        self._clock = _Clock()
        self._rng = torch.Generator(settings.device)
        self._tally = Tally(settings.phase, settings.device)
        self._optimizers: dict[str, ModuleOptimizer] = {}
        self.model_name = next(iter(objective.modules))
        freeze(objective.modules[self.model_name], settings.config.frozen, f"train.{settings.phase}.frozen")
        for name, module in objective.modules.items():
            module.to(settings.device).train()
            settings.processes.share_state(module)
            self._optimizers[name] = ModuleOptimizer(module, settings.config, settings.processes, objective.no_weight_decay)
        self._ema = None
        if settings.config.ema_decay > 0 and settings.processes.is_first:
            self._ema = Ema(objective.modules[self.model_name], settings.config.ema_decay)
        self._resume()

    def run(self, batches: Callable[[int], Iterator[Any]]) -> None:
        """Train to the end and write the final checkpoint.

        Args:
            batches: called with the number of completed steps; returns this process's batches from there on.

        Raises:
            DivergenceError: a loss or gradient is not finite.
            Interrupted: told to stop; a checkpoint was written.
            OSError: a checkpoint could not be written; earlier ones are unchanged.
        """
        settings = self.settings
        source = batches(self.step)
        self._clock.start(images=self.step * settings.config.batch_size)
        settings.progress({"phase": settings.phase, "done": self.step, "total": settings.total_steps})
        with repeatable(settings.device):
            while self.step < settings.total_steps:
                self.train_step(to_device(next(source), settings.device))
                self._after_step()

    def train_step(self, batch: Any) -> None:
        """One optimizer step of every module, on this process's share of a batch."""
        settings, step = self.settings, self.step
        reseed(self._rng, settings.seed, settings.processes.rank, settings.phase, step)
        rate = learning_rate(settings.config, step, settings.total_steps)
        decay = weight_decay(settings.config, step, settings.total_steps)
        if settings.processes.world_size > 1:
            for module in self.objective.modules.values():
                settings.processes.share_state(module, buffers_only=True)
        parts = split(batch, self.micro_batch)
        sources = [self.objective.losses(part, self._rng, step) for part in parts]
        values: dict[str, Tensor | float] = {}
        while name := self._accumulate(sources, values):
            values[f"grad_norm/{name}"] = self._optimizers[name].step(rate, decay)
        if self._ema is not None:
            self._ema.update(step)
        self._tally.add(step, values)
        self.step += 1

    def _accumulate(self, sources: list[Iterator[Any]], values: dict[str, Tensor | float]) -> str | None:
        """Backward pass of the next loss of every part; returns the module's name, or None after the last loss."""
        found = None
        for source in sources:
            with self._precision():
                item = next(source, None)
            if item is None:
                continue
            found, loss, scalars = item
            self._optimizers[found].backward(loss / len(sources) if len(sources) > 1 else loss)
            # The loss itself is logged under the module's name, its terms under module/term.
            for name, value in {found: loss, **{f"{found}/{term}": value for term, value in scalars.items()}}.items():
                value = value.detach() if isinstance(value, Tensor) else value
                value = value / len(sources) if len(sources) > 1 else value
                values[name] = values[name] + value if name in values else value
        return found

    def _precision(self) -> AbstractContextManager:
        return autocast(self.settings.precision, self.settings.device)

    def _after_step(self) -> None:
        """Progress, log, checkpoint, stop: in this order, so that the log is never behind a checkpoint."""
        settings = self.settings
        last = self.step == settings.total_steps
        due = last or self.step % settings.checkpoint_every == 0
        logged = last or self.step % settings.log_every == 0
        stopped = self._stopped(last)
        if due or logged or stopped or settings.device.type == "cpu" or self.step % _SETTLE_EVERY == 0:
            self._tally.settle()
        event: dict[str, Any] = {"phase": settings.phase, "done": self.step, "total": settings.total_steps}
        if logged:
            event |= self._log_line()
        settings.progress(event)
        if due or stopped:
            self._save(final=last)
        if stopped:
            raise Interrupted

    def _stopped(self, last: bool) -> bool:
        settings = self.settings
        if settings.processes.world_size == 1:
            return settings.stop.received
        return (last or self.step % _STOP_EVERY == 0) and settings.processes.any(settings.stop.received, settings.device)

    def _log_line(self) -> dict[str, Any]:
        settings = self.settings
        means = self._tally.means(settings.processes)
        rate = self._clock.rate(self.step * settings.config.batch_size)
        row = {
            "phase": settings.phase,
            "step": self.step,
            "losses": {name: value for name, value in means.items() if not name.startswith("grad_norm/")},
            "lr": learning_rate(settings.config, self.step - 1, settings.total_steps),
            "grad_norm": {name.removeprefix("grad_norm/"): value for name, value in means.items() if "grad_norm/" in name},
            "images_per_second": rate,
            "seconds": self._clock.seconds,
        }
        if settings.processes.is_first:
            settings.log.write(row)
        return {"losses": row["losses"], "images_per_second": rate, "lr": row["lr"]}

    def _save(self, final: bool) -> None:
        settings = self.settings
        if settings.processes.is_first:
            modules = self.objective.modules
            tensors = {ckpt.WEIGHTS: modules[self.model_name].state_dict()}
            tensors |= {f"{name}.safetensors": item.state_dict() for name, item in modules.items() if name != self.model_name}
            if self._ema is not None:
                tensors[ckpt.EMA] = self._ema.state_dict()
            state = ckpt.CheckpointState(
                phase=settings.phase,
                step=self.step,
                total_steps=settings.total_steps,
                final=final,
                images=self.step * settings.config.batch_size,
                seconds=self._clock.seconds,
                means=self._tally.state_dict(),
                notes=self.objective.notes,
                parameters=self._parameter_counts(),
            )
            optimizers = None if final else {name: item.state_dict() for name, item in self._optimizers.items()}
            with self._clock.paused():
                ckpt.save_checkpoint(settings.folder, state, tensors, optimizers)
        settings.processes.barrier()

    def _parameter_counts(self) -> dict[str, int]:
        return parameter_counts(self.objective.modules, self.objective.training_only)

    def _resume(self) -> None:
        settings = self.settings
        found = ckpt.latest_checkpoint(settings.folder)
        if found is not None:
            state = ckpt.read_state(found)
            _check_same_modules(found, state.parameters, self._parameter_counts())
            for name, module in self.objective.modules.items():
                file = ckpt.WEIGHTS if name == self.model_name else f"{name}.safetensors"
                module.load_state_dict(ckpt.load_tensors(found, file))
            if self._ema is not None:
                self._ema.load_state_dict(ckpt.load_tensors(found, ckpt.EMA, settings.device))
            for name, saved in ckpt.load_optimizers(found).items():
                self._optimizers[name].load_state_dict(saved)
            self.step = state.step
            self._clock = _Clock(state.seconds)
            self._tally.load_state_dict(state.means)
        if settings.processes.is_first:
            settings.log.rewind(settings.phase, self.step)


class _Clock:
    """Seconds spent training, without interruptions and the writing of checkpoints."""

    def __init__(self, before: float = 0.0) -> None:
        self._before = before
        self.start(images=0)

    def start(self, images: int) -> None:
        self._started = time.perf_counter() - self._before
        self._last = images, self.seconds

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def rate(self, images: int) -> float:
        """Images per second since the last call."""
        now = self.seconds
        rate = (images - self._last[0]) / max(now - self._last[1], 1e-9)
        self._last = images, now
        return rate

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        paused = time.perf_counter()
        yield
        self._started += time.perf_counter() - paused


def _check_same_modules(checkpoint: Path, there: dict[str, int], here: dict[str, int]) -> None:
    """Refuse to resume with other modules than those of the checkpoint."""
    if there != here:
        before, now = (", ".join(f"{name} ({count:,} parameters)" for name, count in parts.items()) for parts in (there, here))
        raise InputError(
            f"{checkpoint} was written by a training of {before} and cannot be resumed with {now}: optional weights that a "
            "setting 'auto' looks for have appeared or disappeared; restore the former state, or use another `name=`"
        )


def _micro_batch(settings: LoopSettings) -> int | None:
    config, processes = settings.config, settings.processes.world_size
    if config.batch_size % processes:
        raise InputError(
            f"train.{settings.phase}.batch_size = {config.batch_size} cannot be divided over {processes} processes; "
            f"choose a multiple of {processes}"
        )
    share = config.batch_size // processes
    if config.micro_batch_size and config.micro_batch_size < share and share % config.micro_batch_size:
        raise InputError(
            f"train.{settings.phase}.micro_batch_size = {config.micro_batch_size} does not divide the {share} images "
            "per process; choose a divisor"
        )
    return config.micro_batch_size
