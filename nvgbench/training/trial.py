"""Training steps on random images: what a step takes, and the largest micro-batch that fits."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.registry import get_family
from nvgbench.runs.models import seeded_generator, seeded_tokenizer
from nvgbench.training.acceleration import accelerate
from nvgbench.training.log import TrainLog
from nvgbench.training.loop import LoopSettings, TrainingLoop
from nvgbench.types import TokenBatch

_LARGEST = 4096


class Trial:
    """A training of the generator on random images.

    Args:
        config: the training; its tokenizer has random weights.
        num_classes: number of classes.
        device: where to train.
    """

    def __init__(self, config: RunConfig, num_classes: int, device: torch.device) -> None:
        self._config, self._device, self._classes = config, device, num_classes
        self._family = get_family(config.family)
        self._tokenizer: Any = seeded_tokenizer(config, 0).to(device).eval().requires_grad_(False)
        self._generator = seeded_generator(config, self._tokenizer, num_classes, 0).to(device)
        self._family.prepare(self._generator, self._tokenizer, self._batch(4).tokens)
        self._objective = self._family.objective(config, self._tokenizer, self._generator)
        accelerate(self._generator, config.train, device)

    def steps(self, batch_size: int) -> Callable[[], None]:
        """A function that makes one optimizer step with ``batch_size`` images in one micro-batch."""
        phase = dataclasses.replace(self._config.train.generator, batch_size=batch_size, micro_batch_size=None)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            settings = LoopSettings(
                phase="generator", config=phase, total_steps=10**9, seed=0, folder=folder / "checkpoints",
                log=TrainLog(folder / "train.jsonl"), device=self._device, progress=lambda event: None,
                precision=self._config.train.precision,
            )  # fmt: skip
            loop = TrainingLoop(self._objective, settings)
        batch = self._batch(batch_size)
        return lambda: loop.train_step(batch)

    def _batch(self, count: int) -> TokenBatch:
        side = self._config.data.image_size
        images = torch.rand(count, 3, side, side, device=self._device) * 2 - 1
        labels_B = torch.arange(count, device=self._device) % self._classes
        with torch.no_grad():
            return TokenBatch(self._tokenizer.encode(images), labels_B, images)


def largest_micro_batch(config: RunConfig, device: torch.device, report: Callable[[str], None]) -> int:
    """The largest power of two, at most the batch, of which a training step of the generator fits into the device's memory.

    Args:
        config: of the training.
        device: CUDA; the memory of a CPU is not worth filling.
        report: told about each try.

    Raises:
        InputError: on a CPU, or not even one image fits.
    """
    if device.type != "cuda":
        raise InputError(f"the largest batch is found by filling a GPU's memory; there is none ({device}): set device='cuda'")
    trial = Trial(config, 1000, device)

    def fits(size: int) -> bool:
        try:
            trial.steps(size)()
            torch.cuda.synchronize(device)
        except torch.cuda.OutOfMemoryError:
            return False
        finally:
            torch.cuda.empty_cache()
        return True

    return grow(fits, min(config.train.generator.batch_size, _LARGEST), report)


def grow(fits: Callable[[int], bool], limit: int, report: Callable[[str], None]) -> int:
    """The largest of 1, 2, 4 … up to ``limit`` for which ``fits`` is true, tried in this order.

    Raises:
        InputError: 1 does not fit.
    """
    size, found = 1, 0
    while size <= limit:
        fitting = fits(size)
        report(f"micro-batch {size}: {'fits' if fitting else 'out of memory'}")
        if not fitting:
            break
        found, size = size, 2 * size
    if not found:
        raise InputError(
            "not even one image per backward pass fits; use train.activation_checkpointing=true or a smaller model"
        )
    return found
