"""The study ``cost``: what sampling costs, which part takes it, and how it grows; how smooth the training was."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from nvgbench.ablations.stability import SPIKE, training_stability
from nvgbench.ablations.study import Conclusion, Context, Row, StudiedRun, Study, Tables
from nvgbench.config.load import override_config, override_dataclass
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.interfaces import ImageGenerator
from nvgbench.nvg.structure_control import with_own_structure
from nvgbench.profiling.details import OVERHEAD, sample_request, without_graphs
from nvgbench.profiling.latency import time_repetitions
from nvgbench.profiling.machine import synchronize
from nvgbench.profiling.profile import ProfilePlan, profile_generator
from nvgbench.registry import get_family
from nvgbench.results.study import Chart, Finding
from nvgbench.runs.log import read_log
from nvgbench.runs.models import untrained_generator
from nvgbench.sampling.parts import PartClock
from nvgbench.types import Measurement

BATCHES = (1, 4, 16)
FLOW_STEPS = (1, 2, 4, 8, 16)
FACTORS = (0.5, 1, 2)
"""Of the image's side and of the depth."""
_REPEATS = 5
USUAL = "usual"
_CLASSES = 10


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One timed setting.

    Attributes:
        mode: how the model samples.
        varied: ``batch``, ``flow steps``, ``grid`` or ``depth``.
        value: images, steps, positions or blocks.
        batch: images per call.
        sampling: overrides of the sampling settings.
        config: overrides of the configuration, for a model with random weights; the run's own model if empty.
    """

    varied: str
    value: int
    mode: str = USUAL
    batch: int = 1
    sampling: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)


class Cost(Study):
    """Batches, flow steps, grids and depths of every run, the share of each part, and the training's stability."""

    name = "cost"
    version = 2
    question = "What does an image cost, which part of the model takes it, and how does it grow?"
    varies: ClassVar = {
        "mode": "as usual; with given structure (NVG); without key-value cache (VAR)",
        "batch": f"{', '.join(map(str, BATCHES))} images per call",
        "flow steps": f"{', '.join(map(str, FLOW_STEPS))}, at batch 1 (NVG)",
        "grid": "image sides times ½, 1 and 2, so positions times ¼, 1 and 4, at batch 1; random weights",
        "depth": "blocks times ½, 1 and 2, at batch 1; random weights",
    }
    reports: ClassVar = {
        "growth": "exponents of the time per call and of the FLOPs, fitted over each setting",
        "parts": "share of every part in the time of a call and in the FLOPs of an image",
        "stability": f"from the training log: losses above {SPIKE} times the median of the five before, norms of the gradient, "
        "lines that are not finite",
        "costs": f"median, smallest and largest of {_REPEATS} calls; memory, energy and FLOPs of each setting",
    }
    limits = (
        "Times hold for this machine, and a busy machine shows it in the range of the repetitions. An exponent over a few "
        "values describes them and is no law. Depth changes the width as well where the preset derives the heads from it. "
        "Logged losses are means over the steps between two lines, which hide shorter spikes; no step is ever skipped."
    )

    def check(self, runs: Sequence[StudiedRun], context: Context) -> None:
        for run in runs:
            if run.folder.state("generator") is None:
                raise InputError(f"{run.folder.name} has no trained generator; train it first")

    def measure(self, run: StudiedRun, context: Context) -> Tables:
        config, device = run.folder.config, context.device
        own = run.folder.load_generator(device)
        rows = []
        work = list(settings(config))
        with context.report(f"costs of {run.folder.name}") as progress:
            for done, one in enumerate(work, start=1):
                generator = own if not one.config else _untrained(config, one.config, context)
                if generator is not None:
                    rows.append(
                        {"mode": one.mode, "setting": one.varied, "value": one.value, **_measured(generator, one, device)}
                    )
                progress(done, len(work))
        log = training_stability(read_log(run.folder.log_path), config)
        return {"costs": rows, "parts": parts(own, config, device), "stability": log}

    def conclude(self, tables: Mapping[str, list[Row]]) -> Conclusion:
        rows = [row for row in tables["costs"] if row["seconds"] is not None]
        growth: list[Row] = []
        for key in dict.fromkeys((row["run"], row["mode"], row["setting"]) for row in rows):
            own = [row for row in rows if (row["run"], row["mode"], row["setting"]) == key]
            if len(own) > 1:
                growth.append({"run": key[0], "mode": key[1], "setting": key[2], **fitted(own)})
        findings = [_growth_finding(row) for row in growth if row["mode"] == USUAL]
        findings += _part_findings(tables.get("parts", [])) + _stability_findings(tables.get("stability", []))
        several = ("run",) if len({row["run"] for row in rows}) > 1 else ()
        chart = Chart(
            table="costs", y="seconds", x="value", series="mode", panel=(*several, "setting"), label="seconds per call",
            log_x=True,
            caption="Median time of a call by batch size, flow steps, positions of the grid and blocks; bands are the range of "
            f"{_REPEATS} repetitions.",
        )  # fmt: skip
        return Conclusion(findings=findings, charts=[chart], tables={"growth": growth})


def settings(config: RunConfig) -> Iterator[Setting]:
    """Everything that is timed for a model of this configuration."""
    known = {entry.name for entry in dataclasses.fields(config.sampling)}
    modes: list[tuple[str, dict[str, Any]]] = [(USUAL, {})]
    if config.family == "nvg":
        modes.append(("given structure", {}))
    if "kv_cache" in known:
        modes.append(("without KV cache", {"kv_cache": False}))
    for mode, sampling in modes:
        for size in BATCHES:
            yield Setting(varied="batch", value=size, mode=mode, batch=size, sampling=sampling)
    if "flow_steps" in known:
        for steps in FLOW_STEPS:
            yield Setting(varied="flow steps", value=steps, sampling={"flow_steps": steps})
    positions = config.grid[0] * config.grid[1]
    for factor in FACTORS:
        side = int(config.data.image_size * factor)
        changed: dict[str, Any] = {"data.image_size": side}
        if getattr(config.tokenizer.quantizer, "scales", None) is not None:
            changed["tokenizer.quantizer.scales"] = None  # the family's own for the other grid
        yield Setting(varied="grid", value=int(positions * factor**2), config=changed)
    for factor in FACTORS if hasattr(config.model, "depth") else ():
        depth = max(1, int(config.model.depth * factor))
        yield Setting(varied="depth", value=depth, config={"model.depth": depth})


def parts(generator: ImageGenerator, config: RunConfig, device: torch.device) -> list[Row]:
    """Share of every part in the time of an eager call at batch 1, synchronised at its borders, and in the FLOPs."""
    eager = {"compile": False} if hasattr(config.sampling, "compile") else {}
    sampling = override_dataclass(config.sampling, eager, "sampling")
    cost = get_family(config.family).cost(dataclasses.replace(config, sampling=sampling), generator.spec.num_classes)
    request = sample_request(generator, 1, eager)
    generator.generate(request)
    with without_graphs(generator), PartClock(lambda: synchronize(device)) as clock:
        (total,) = time_repetitions(lambda: generator.generate(request), device, repeats=1, warmup=0)
    seconds = {**clock.seconds, OVERHEAD: max(total - sum(clock.seconds.values()), 0.0)} if clock.seconds else {}
    flops = {part: float(count) for part, count in cost.sampling_flops.items()}
    return [
        {
            "part": part,
            "seconds": seconds.get(part), "share of time": _share(seconds, part),
            "flops": flops.get(part), "share of FLOPs": _share(flops, part),
        }
        for part in dict.fromkeys((*seconds, *flops))
    ]  # fmt: skip


def fitted(rows: Sequence[Row]) -> Row:
    """Exponents of ``seconds`` and ``flops`` over ``value`` by least squares of the logarithms, with the ends of the range."""
    values, seconds = (np.array([row[key] for row in rows], dtype=np.float64) for key in ("value", "seconds"))
    first, last = int(values.argmin()), int(values.argmax())
    counted = [(row["value"], row["flops"]) for row in rows if row.get("flops")]
    return {
        "exponent": _exponent(values, seconds), "from": float(values[first]), "to": float(values[last]),
        "seconds from": float(seconds[first]), "seconds to": float(seconds[last]),
        "exponent of FLOPs": _exponent(*np.array(counted, dtype=np.float64).T) if len(counted) == len(rows) else None,
    }  # fmt: skip


def _exponent(values: Any, numbers: Any) -> float:
    return float(np.polyfit(np.log(values), np.log(numbers), 1)[0])


def _share(amounts: Mapping[str, float], part: str) -> float | None:
    total = sum(amounts.values())
    return amounts[part] / total if part in amounts and total > 0 else None


def _untrained(config: RunConfig, changed: Mapping[str, Any], context: Context) -> ImageGenerator | None:
    """A model of another size with random weights; None if the family has none of that size."""
    try:
        return untrained_generator(override_config(config, changed), _CLASSES, context.seed, context.device)
    except InputError:
        return None


def _measured(generator: ImageGenerator, setting: Setting, device: torch.device) -> Row:
    if setting.mode == "given structure":
        generator = with_own_structure(generator)
    plan = ProfilePlan(
        batch_sizes=(setting.batch,),
        repeats=_REPEATS,
        warmup=1,
        energy_seconds=1.0,
        energy_windows=1,
        settings=setting.sampling,
    )
    return _cost({one.name: one for one in profile_generator(generator, plan, device)}, setting.batch)


def _cost(found: Mapping[str, Measurement], batch: int) -> Row:
    """Seconds per call from latency or throughput, and what else was measured; None where it is not available."""
    speed = found.get("latency") or found["throughput"]
    seconds = [batch / sample for sample in speed.samples] if speed.name == "throughput" else list(speed.samples)
    row: Row = {"seconds": float(np.median(seconds)) if seconds else None}
    row |= {"seconds_low": min(seconds, default=None), "seconds_high": max(seconds, default=None)}
    for name in ("flops", "peak_memory_cuda", "peak_memory_process", "energy"):
        measured = found.get(name)
        row[name] = measured.median if measured is not None and measured.samples else None
    return row


_UNITS = {"batch": "images per call", "flow steps": "flow steps", "grid": "positions", "depth": "blocks"}


def _growth_finding(row: Row) -> Finding:
    return Finding(
        text=f"{row['run']}: from {row['from']:g} to {row['to']:g} {_UNITS[row['setting']]}, the time of a call grows from "
        f"{row['seconds from']:.3g} to {row['seconds to']:.3g} s, with exponent {row['exponent']:.2f}.",
        subject=row["run"], metric=f"exponent over {row['setting']}", value=row["exponent"],
    )  # fmt: skip


def _part_findings(rows: Sequence[Row]) -> list[Finding]:
    """The part that takes most of the time."""
    findings = []
    for run in dict.fromkeys(row["run"] for row in rows):
        timed = [row for row in rows if row["run"] == run and row["share of time"] is not None]
        if timed:
            most = max(timed, key=lambda row: row["share of time"])
            counted = most["share of FLOPs"]
            flops = "" if counted is None else f" and {counted:.0%} of its FLOPs"
            findings.append(
                Finding(
                    text=f"{run}: {most['part']} takes {most['share of time']:.0%} of the time of an image{flops}.",
                    subject=run, metric="share of time", value=most["share of time"],
                )
            )  # fmt: skip
    return findings


def _stability_findings(rows: Sequence[Row]) -> list[Finding]:
    findings = []
    for run in dict.fromkeys(row["run"] for row in rows):
        own = [row for row in rows if row["run"] == run]
        spikes, broken, logged = (sum(row[name] for row in own) for name in ("spikes", "not_finite", "logged"))
        findings.append(
            Finding(
                text=f"{run}: {spikes} spikes of a loss and {broken} values that are not finite in {logged} logged lines of "
                f"{len(own)} modules.",
                subject=run, metric="loss spikes", value=float(spikes),
            )
        )  # fmt: skip
    return findings
