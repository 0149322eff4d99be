"""All probes on one generator: FLOPs, latency, throughput, memory, energy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from nvgbench.device import compilation_seconds, describe_device
from nvgbench.errors import InputError
from nvgbench.interfaces import ImageGenerator
from nvgbench.profiling.details import sample_request, without_graphs
from nvgbench.profiling.energy import energy_per_image
from nvgbench.profiling.flops import flops_measurement
from nvgbench.profiling.latency import time_repetitions
from nvgbench.profiling.memory import peak_cuda_memory, peak_process_memory
from nvgbench.types import Measurement


@dataclass(frozen=True, kw_only=True)
class ProfilePlan:
    """What is measured and how often.

    Attributes:
        batch_sizes: images per call; latency is recorded at 1, throughput above.
        repeats: timed calls per batch size.
        warmup: untimed calls before them.
        energy_seconds, energy_windows: length and number of the windows over which energy is read.
        settings: overrides of the sampling settings.
        eager: further ones that switch compilation off, for counting operations.
    """

    batch_sizes: tuple[int, ...] = (1, 8)
    repeats: int = 10
    warmup: int = 2
    energy_seconds: float = 3.0
    energy_windows: int = 3
    settings: Mapping[str, Any] = field(default_factory=dict)
    eager: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.batch_sizes or min(self.batch_sizes) < 1 or len(set(self.batch_sizes)) != len(self.batch_sizes):
            raise InputError(f"batch sizes {self.batch_sizes}: expected one or more different numbers of at least 1, e.g. 1,8")
        if self.repeats < 1 or self.warmup < 0:
            raise InputError(f"repeats = {self.repeats}, warmup = {self.warmup}; expected at least 1 and at least 0")


def profile_generator(
    generator: ImageGenerator,
    plan: ProfilePlan,
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Measurement, ...]:
    """Measure a generator that lives on ``device``.

    Args:
        generator: what to measure, through ``generate`` alone.
        plan: what to measure.
        device: where it runs; determines what is synchronised and which counters are read.
        progress: called with (steps done, steps) after each.

    Returns:
        ``flops`` of one image, then for each batch size ``latency`` (s, batch 1) or ``throughput`` (images/s),
        ``peak_memory_cuda``, ``peak_memory_process`` (B) and ``energy`` (J/image). What cannot be measured, or does not
        fit into memory, has no samples and a note.

    Raises:
        InputError: unknown sampling settings.
    """
    steps = len(plan.batch_sizes) + 1
    with without_graphs(generator):
        counted = flops_measurement(_workload(generator, 1, {**plan.settings, **plan.eager}), 1)
    found = [_under(counted, {"batch_size": 1})]
    _tell(progress, 1, steps)
    for done, batch_size in enumerate(sorted(plan.batch_sizes), start=2):
        found += _at_batch_size(generator, batch_size, plan, device)
        _tell(progress, done, steps)
    return tuple(found)


def _at_batch_size(generator: ImageGenerator, batch_size: int, plan: ProfilePlan, device: torch.device) -> list[Measurement]:
    workload = _workload(generator, batch_size, plan.settings)
    conditions: dict[str, Any] = {"batch_size": batch_size, "warmup": plan.warmup, **describe_device(device)}
    try:
        if plan.warmup:
            # It captures and compiles, loads kernels and allocates.
            before = compilation_seconds()
            (conditions["first_call_s"],) = time_repetitions(workload, device, repeats=1, warmup=0)
            if compiling := compilation_seconds() - before:
                conditions["compile_s"] = compiling
        seconds = time_repetitions(workload, device, repeats=plan.repeats, warmup=max(plan.warmup - 1, 0))
        measured = [
            _speed(seconds, batch_size),
            peak_cuda_memory(workload, device),
            peak_process_memory(workload),
            energy_per_image(workload, batch_size, device, seconds=plan.energy_seconds, windows=plan.energy_windows),
        ]
    except torch.cuda.OutOfMemoryError:
        torch.cuda.empty_cache()
        measured = [dataclasses.replace(_speed((), batch_size), note="not available: out of GPU memory at this batch size")]
    return [_under(measurement, conditions) for measurement in measured]


def _speed(seconds: tuple[float, ...], batch_size: int) -> Measurement:
    if batch_size == 1:
        return Measurement(name="latency", unit="s", samples=seconds)
    rates = tuple(batch_size / second for second in seconds)
    return Measurement(name="throughput", unit="images/s", samples=rates, higher_is_better=True)


def _workload(generator: ImageGenerator, batch_size: int, settings: Mapping[str, Any]) -> Callable[[], object]:
    """One call of the generator, always the same."""
    request = sample_request(generator, batch_size, settings)
    return lambda: generator.generate(request)


def _under(measurement: Measurement, conditions: Mapping[str, Any]) -> Measurement:
    return dataclasses.replace(measurement, conditions={**conditions, **measurement.conditions})


def _tell(progress: Callable[[int, int], None] | None, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)
