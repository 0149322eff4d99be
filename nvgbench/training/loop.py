"""The training loop, the same for every objective."""

from __future__ import annotations

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
from nvgbench.training.clock import Clock
from nvgbench.training.distributed import Processes
from nvgbench.training.ema import Ema
from nvgbench.training.frozen import freeze
from nvgbench.training.interrupt import Interrupted, StopSignal
from nvgbench.training.log import TrainLog
from nvgbench.training.optimizer import ModuleOptimizer
from nvgbench.training.parallel import Mode, Sharded, parallelize
from nvgbench.training.plan import micro_batch
from nvgbench.training.precision import Precision, autocast, repeatable
from nvgbench.training.schedule import learning_rate, weight_decay
from nvgbench.training.snapshot import Snapshots
from nvgbench.training.speed import SpeedMeter, memory_by_part
from nvgbench.training.tally import Tally
from nvgbench.training.validation import Validation

# On an accelerator, losses are fetched at most this many steps late, so that the device does not wait for Python.
_SETTLE_EVERY = 20


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
        flops: forward and backward of one image; None if unknown.
        log_every, checkpoint_every: in steps.
        keep: which checkpoints are kept.
        keep_optimizer: whether the last checkpoint has the optimizers' state.
        validation: of the model in the first process; None for none.
        processes: those that train together.
        parallel: how they do, see `nvgbench.training.parallel`.
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
    flops: float | None = None
    log_every: int = 50
    checkpoint_every: int = 5000
    keep: ckpt.Keep = field(default_factory=ckpt.Keep)
    keep_optimizer: bool = False
    validation: Validation | None = None
    processes: Processes = field(default_factory=Processes)
    parallel: Mode = "ddp"
    stop: StopSignal = field(default_factory=StopSignal)


class TrainingLoop:
    """Trains the modules of an objective; resumes from the last checkpoint if there is one.

    Attributes:
        step: completed steps.
        images: training images seen.
        metrics: the losses logged last, by name.
    """

    def __init__(self, objective: Objective, settings: LoopSettings) -> None:
        """The objective's modules are moved to the device here.

        Raises:
            InputError: the batch cannot be divided as configured; the patterns of frozen parameters do not fit; the last
                checkpoint is damaged, or of other modules.
        """
        self.objective = objective
        self.settings = settings
        self.micro_batch = micro_batch(settings.phase, settings.config, settings.processes.world_size)
        self.step = self.images = self._saved_step = 0
        self.metrics: dict[str, float] = {}
        self._finished = self._reported = False
        self._clock = Clock()
        self._meter = SpeedMeter(settings.flops, settings.device, settings.precision, settings.processes.world_size)
        self._rng = torch.Generator(settings.device)
        self._tally = Tally(settings.phase, settings.device, _divergence_remedy(settings))
        self.model_name = next(iter(objective.modules))
        freeze(objective.modules[self.model_name], settings.config.frozen, f"train.{settings.phase}.frozen")
        for module in objective.modules.values():
            module.to(settings.device).train()
        self._parallel = parallelize(objective.modules, settings.processes, settings.parallel)
        self._optimizers = {
            name: ModuleOptimizer(parallel, settings.config, objective.no_weight_decay)
            for name, parallel in self._parallel.items()
        }
        sharded = isinstance(self._parallel[self.model_name], Sharded)
        self._ema = None
        if settings.config.ema_decay > 0 and (settings.processes.is_first or sharded):
            self._ema = Ema(next(iter(objective.modules.values())), settings.config.ema_decay)
        self._snapshots = Snapshots(
            folder=settings.folder, objective=objective, optimizers=self._optimizers, ema=self._ema,
            keep=settings.keep, keep_optimizer=settings.keep_optimizer, processes=settings.processes, sharded=sharded,
        )  # fmt: skip
        self._resume()

    def run(self, batches: Callable[[int], Iterator[Any]]) -> None:
        """Train to the end and write the final checkpoint.

        Args:
            batches: called with the number of completed steps; returns this process's batches from there on.

        Raises:
            DivergenceError: a loss or gradient is not finite.
            Interrupted: told to stop; a checkpoint was written.
            InputError: an image cannot be read (or whatever else ``batches`` raise); a checkpoint was written.
            OSError: a checkpoint could not be written; earlier ones are unchanged.
        """
        settings = self.settings
        source = batches(self.step)
        self._clock.start(self.images)
        settings.progress({"phase": settings.phase, "done": self.step, "total": settings.total_steps})
        with repeatable(settings.device):
            while self.step < settings.total_steps:
                self.train_step(to_device(self._next(source), settings.device))
                self._after_step()
        if not self._finished:  # continued without a step left
            self._save(final=True)

    def _next(self, source: Iterator[Any]) -> Any:
        """The next batch; if it cannot be had in any process, the steps so far are saved before the error leaves the loop."""
        settings, batch, failure = self.settings, None, None
        try:
            with self._clock.waiting():
                batch = next(source)
        except Exception as error:
            failure = error
        if not settings.processes.any(failure is not None):
            return batch
        if self.step > self._saved_step:
            self._tally.settle()
            self._save(final=False)
        if settings.stop.received:  # which may be why workers are gone
            raise Interrupted from failure
        raise failure or InputError("another process could not read its images; its message says why")

    def train_step(self, batch: Any) -> None:
        """One optimizer step of every module, on this process's share of a batch."""
        settings, step = self.settings, self.step
        reseed(self._rng, settings.seed, settings.processes.rank, settings.phase, step)
        rate = learning_rate(settings.config, step, settings.total_steps)
        decay = weight_decay(settings.config, step, settings.total_steps)
        for parallel in self._parallel.values():
            parallel.share_buffers()
        parts = split(batch, self.micro_batch)
        sources = [self.objective.losses(part, self._rng, step) for part in parts]
        values: dict[str, Tensor | float] = {}
        while name := self._accumulate(sources, values):
            values[f"grad_norm/{name}"] = self._optimizers[name].step(rate, decay)
        if self._ema is not None:
            self._ema.update(step)
        self._tally.add(step, values)
        self.step += 1
        self.images += settings.config.batch_size

    def _accumulate(self, sources: list[Iterator[Any]], values: dict[str, Tensor | float]) -> str | None:
        """Backward pass of the next loss of every part; returns the module's name, or None after the last loss.

        Raises:
            RuntimeError: some parts yield no loss where others do; gradients would not be averaged over the processes.
        """
        found, missing = None, 0
        for number, source in enumerate(sources, start=1):
            with self._precision():
                item = next(source, None)
            if item is None:
                missing += 1
                continue
            found, loss, scalars = item
            self._optimizers[found].backward(loss / len(sources) if len(sources) > 1 else loss, last=number == len(sources))
            # The loss itself is logged under the module's name, its terms under module/term.
            for name, value in {found: loss, **{f"{found}/{term}": value for term, value in scalars.items()}}.items():
                value = value.detach() if isinstance(value, Tensor) else value
                value = value / len(sources) if len(sources) > 1 else value
                values[name] = values[name] + value if name in values else value
        if found is not None and missing:
            raise RuntimeError(
                f"{found}: {missing} of {len(sources)} micro-batches yielded no loss; an objective must yield alike"
            )
        return found

    def _precision(self) -> AbstractContextManager:
        return autocast(self.settings.precision, self.settings.device)

    def _after_step(self) -> None:
        """Progress, log, checkpoint, stop: in this order, so that the log is never behind a checkpoint."""
        settings = self.settings
        last = self.step == settings.total_steps
        due = last or self.step % settings.checkpoint_every == 0
        logged = last or self.step % settings.log_every == 0
        stopped = settings.processes.any(settings.stop.received)
        if due or logged or stopped or settings.device.type == "cpu" or self.step % _SETTLE_EVERY == 0:
            self._tally.settle()
        event: dict[str, Any] = {"phase": settings.phase, "done": self.step, "total": settings.total_steps}
        if logged:
            event |= self._log_line()
        settings.progress(event)
        if due or stopped:
            self._save(final=last)
            self._finished = last
        if stopped:
            raise Interrupted

    def _log_line(self) -> dict[str, Any]:
        settings = self.settings
        means = self._tally.means(settings.processes)
        rate, waiting = self._clock.rate(self.images)
        losses = {name: value for name, value in means.items() if not name.startswith("grad_norm/")} | self._validated()
        row = {
            "phase": settings.phase,
            "step": self.step,
            "losses": losses,
            "lr": learning_rate(settings.config, self.step - 1, settings.total_steps),
            "grad_norm": {name.removeprefix("grad_norm/"): value for name, value in means.items() if "grad_norm/" in name},
            "images_per_second": rate,
            "seconds": self._clock.seconds,
            "speed": self._meter.row(rate, waiting),
        }
        self.metrics = {name: value for name, value in self.metrics.items() if name.startswith("heldout/")} | losses
        if settings.processes.is_first:
            settings.log.write(row)
        return {"losses": losses, "images_per_second": rate, "lr": row["lr"]}

    def _validated(self) -> dict[str, float]:
        """Held-out losses by name, if they are due."""
        settings, validation = self.settings, self.settings.validation
        if validation is None or (self.step % validation.every and self.step < settings.total_steps):
            return {}
        with self._clock.paused():
            return validation.run(self.objective, self._ema, self.step)

    def _save(self, final: bool) -> None:
        settings = self.settings
        state = ckpt.CheckpointState(
            phase=settings.phase,
            step=self.step,
            total_steps=settings.total_steps,
            final=final,
            images=self.images,
            seconds=self._clock.seconds,
            means=self._tally.state_dict(),
            notes=self.objective.notes,
            metrics=self.metrics,
            memory=memory_by_part(self.objective.modules, self._optimizers, self._ema),
            parameters=self._snapshots.parameters,
        )
        with self._clock.paused():
            self._snapshots.save(state)
        self._saved_step = self.step
        settings.processes.barrier()
        self._report_missing_best()

    def _report_missing_best(self) -> None:
        best = self.settings.keep.best
        if best is not None and self.metrics and best not in self.metrics and not self._reported:
            self._reported = True
            text = (
                f"{self.settings.phase}: no best checkpoint is kept, as train.keep_best = {best!r} is not logged; logged are "
            )
            self.settings.progress({"message": text + ", ".join(self.metrics)})

    def _resume(self) -> None:
        settings = self.settings
        state = self._snapshots.restore(settings.device)
        if state is not None:
            self.step = self._saved_step = state.step
            self.images = state.images
            self.metrics = dict(state.metrics)
            self._finished = state.final
            self._clock = Clock(state.seconds)
            self._tally.load_state_dict(state.means)
        if settings.processes.is_first:
            settings.log.rewind(settings.phase, self.step)


def _divergence_remedy(settings: LoopSettings) -> str:
    key, rate = f"train.{settings.phase}.learning_rate", settings.config.learning_rate / 2
    return (
        f"continue from there with a lower rate by `continue_with={key}={rate:g}`, or with a lower clip_norm or "
        "train.precision = 'fp32' in the same way"
    )
