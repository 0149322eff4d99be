"""Sampling as a user gets it: each family at the published sizes, small and large batches, with random weights.

Only ``generate`` (and ``tokens``, where a family has it) is used, at the preset's settings: precision, capturing and compiling
are what the device's defaults make of them. The first call, which captures and compiles, is timed by itself.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.ceilings import matmul_peak
from nvgbench.config.load import load_preset
from nvgbench.config.schema import RunConfig
from nvgbench.device import resolved_settings
from nvgbench.nvg.sampler import GivenStructure
from nvgbench.profiling.machine import synchronize
from nvgbench.registry import get_family
from nvgbench.runs.models import untrained_generator
from nvgbench.types import SampleRequest

_CLASSES = 1000


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        batch: images per call.
        goal: what must be reached on an H100: seconds at batch 1, images/s above.
        settings: of the sampling.
        what: ``images``; ``tokens``, without the decoder; ``given structure``, NVG's content alone.
    """

    batch: int
    goal: float | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    what: str = "images"


_LARGE = {
    "nvg-d16": (
        Case(1, 0.20, {"flow_steps": 25}),
        Case(1, 0.050, {"flow_steps": 4}),
        Case(1, 0.025, {"flow_steps": 1}),
        Case(1, 0.020, what="given structure"),
        Case(64, 16, {"flow_steps": 25}),
        Case(64, 160, {"flow_steps": 1}),
    ),
    "var-d16": (Case(1, 0.020), Case(64, 400, what="tokens"), Case(64)),
    "ar-b": (Case(1), Case(64)),
}
_TINY = {
    "nvg-tiny": (Case(1, settings={"flow_steps": 2}), Case(1, what="given structure"), Case(4)),
    "var-tiny": (Case(1), Case(4, what="tokens")),
    "ar-tiny": (Case(4),),
}


def measure(bench: Bench) -> None:
    """All cases, family by family."""
    peak = matmul_peak(bench, torch.bfloat16 if bench.cuda else torch.float32)
    for preset, cases in (_TINY if bench.tiny else _LARGE).items():
        config = load_preset(preset, [])
        generator = untrained_generator(config, _CLASSES, seed=0, device=bench.device)
        for case, call in _calls(generator, cases):
            _measure_case(bench, config, case, call, peak)
        del generator, call
        if bench.cuda:
            torch.cuda.empty_cache()


def _calls(generator: Any, cases: tuple[Case, ...]) -> Iterator[tuple[Case, Callable[[], object]]]:
    for case in cases:
        order_B = torch.arange(case.batch)
        request = SampleRequest(labels_B=order_B % _CLASSES, seeds_B=order_B, settings=case.settings)
        if case.what == "given structure":
            layout = generator.generator.layout
            structure_1L = torch.randperm(layout.positions, generator=torch.Generator().manual_seed(0))[None]
            given = GivenStructure(structure_1L, layout.last)
            yield case, functools.partial(generator.generate, request, given)
        elif case.what == "tokens" and hasattr(generator, "tokens"):
            yield case, functools.partial(generator.tokens, request)
        elif case.what == "images":
            yield case, functools.partial(generator.generate, request)


def _measure_case(bench: Bench, config: RunConfig, case: Case, call: Callable[[], object], peak: float) -> None:
    how: dict[str, Any] = {"what": case.what, "batch": case.batch, **case.settings}
    settings = {name: getattr(config.sampling, name) for name in ("precision", "compile")}
    how |= resolved_settings(settings, bench.device)
    began = time.perf_counter()
    try:
        call()
        synchronize(bench.device)
        how["first_call_s"] = time.perf_counter() - began
        if bench.cuda:
            torch.cuda.reset_peak_memory_stats()
        seconds = bench.time(call, warmup=1, repeats=3)
    except torch.cuda.OutOfMemoryError:
        bench.add(config.name, "sampling", "images/s", (), note="out of memory", **how)
        return
    if bench.cuda:
        how["peak_GiB"] = torch.cuda.max_memory_allocated() / 2**30
    if case.what == "images":
        sampling = dataclasses.replace(config.sampling, **case.settings)
        flops = get_family(config.family).cost(dataclasses.replace(config, sampling=sampling), _CLASSES).sampling_flops
        how["MFU"] = sum(flops.values()) * case.batch / sorted(seconds)[len(seconds) // 2] / peak
    if case.batch == 1:
        bench.add(config.name, "latency", "s", seconds, goal=case.goal, **how)
    else:
        bench.add(config.name, "throughput", "images/s", tuple(case.batch / s for s in seconds), goal=case.goal, **how)
