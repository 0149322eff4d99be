"""Training: images per second and share of the matrix product's peak (MFU), generator and tokenizer, memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.ceilings import matmul_peak
from nvgbench.autoencoder.objective import TokenizerObjective
from nvgbench.config.load import load_preset
from nvgbench.config.schema import RunConfig
from nvgbench.interfaces import Objective
from nvgbench.profiling.flops import count_flops
from nvgbench.registry import get_family
from nvgbench.runs.models import seeded_tokenizer
from nvgbench.training.log import TrainLog
from nvgbench.training.loop import LoopSettings, TrainingLoop
from nvgbench.training.precision import resolve_precision
from nvgbench.training.trial import Trial
from nvgbench.types import ImageBatch

# Without networks whose weights would have to be downloaded.
_SETTINGS = ("tokenizer.losses.perceptual=none", "tokenizer.losses.adversarial=none", "data.source=shapes")
_ALIGNMENT = {"nvg": ("model.alignment=none",)}
_CLASSES = 1000
_MFU_GOAL = 0.5


def measure(bench: Bench) -> None:
    """Micro-batch of 16 images, eager and with compiled blocks."""
    peak = matmul_peak(bench, torch.bfloat16 if bench.cuda else torch.float32)
    batch = 4 if bench.tiny else 16
    preset = "nvg-tiny" if bench.tiny else "nvg-d16"
    _generator(bench, preset, batch, compiled=False, peak=peak)
    _tokenizer(bench, preset, batch, peak)
    if bench.cuda:
        _generator(bench, preset, batch, compiled=True, peak=peak)
    for compiled in (True, False) if not bench.tiny else ():
        _generator(bench, "var-d16", batch, compiled=compiled, peak=peak)


def _config(preset: str, batch: int, *more: str) -> RunConfig:
    settings = [*_SETTINGS, *_ALIGNMENT.get(preset.partition("-")[0], ()), *more]
    return load_preset(preset, [*settings, f"train.generator.batch_size={batch}", f"train.tokenizer.batch_size={batch}"])


def _images(bench: Bench, config: RunConfig, batch: int) -> ImageBatch:
    side = config.data.image_size
    labels_B = torch.arange(batch, device=bench.device) % _CLASSES
    return ImageBatch(torch.rand(batch, 3, side, side, device=bench.device) * 2 - 1, labels_B)


def _generator(bench: Bench, preset: str, batch: int, compiled: bool, peak: float) -> None:
    config = _config(preset, batch, f"train.compile={str(compiled).lower()}")
    flops = get_family(config.family).cost(config, _CLASSES).training_flops
    assert flops is not None, preset
    step = Trial(config, _CLASSES, bench.device).steps(batch)
    _report(bench, f"{preset} generator training", step, batch, flops, peak, config, compiled=compiled)


def _tokenizer(bench: Bench, preset: str, batch: int, peak: float) -> None:
    config = _config(preset, batch)
    tokenizer: Any = seeded_tokenizer(config, 0).to(bench.device)
    step = _step(bench, config, TokenizerObjective(config, tokenizer, 1000), _images(bench, config, batch))
    flops = count_flops(step) / batch
    _report(bench, f"{preset} tokenizer training", step, batch, flops, peak, config, compiled=False)


def _step(bench: Bench, config: RunConfig, objective: Objective, batch: ImageBatch) -> Callable[[], None]:
    """One optimizer step per call."""
    folder = Path(tempfile.mkdtemp())
    settings = LoopSettings(
        phase="tokenizer",
        config=config.train.tokenizer,
        total_steps=10**6,
        seed=0,
        folder=folder / "checkpoints",
        log=TrainLog(folder / "train.jsonl"),
        device=bench.device,
        progress=lambda event: None,
        precision=config.train.precision,
    )
    loop = TrainingLoop(objective, settings)
    return lambda: loop.train_step(batch)


def _report(
    bench: Bench,
    subject: str,
    step: Callable[[], None],
    batch: int,
    flops: float,
    peak: float,
    config: RunConfig,
    compiled: bool,
) -> None:
    began = time.perf_counter()
    step()
    if bench.cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    first = time.perf_counter() - began
    seconds = bench.time(step, repeats=3 if bench.tiny else 10)
    how: dict[str, Any] = {"batch": batch, "precision": resolve_precision(config.train.precision, bench.device)}
    how |= {"compile": "yes" if compiled else "no", "first_step_seconds": first}
    bench.add(subject, "rate", "images/s", tuple(batch / s for s in seconds), **how)
    shares = tuple(flops * batch / s / peak for s in seconds)
    goal = _MFU_GOAL if "generator" in subject and compiled else None
    bench.add(subject, "MFU", "of the product's peak", shares, goal=goal, higher_is_better=True, **how)
    if bench.cuda:
        bench.add(subject, "peak memory", "B", (float(torch.cuda.max_memory_allocated()),), **how)
