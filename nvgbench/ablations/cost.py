"""The study ``cost``: how time, memory, energy and FLOPs of sampling grow with the batch and with the flow steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from nvgbench.ablations.study import Conclusion, Context, Row, StudiedRun, Study, Tables
from nvgbench.errors import InputError
from nvgbench.profiling.profile import ProfilePlan, profile_generator
from nvgbench.results.study import Chart, Finding
from nvgbench.types import Measurement

BATCHES = (1, 4, 16)
FLOW_STEPS = (1, 2, 4, 8, 16)
_REPEATS = 5


class Cost(Study):
    """Batch sizes of every run; flow steps of those that have a structure flow."""

    name = "cost"
    question = "What does an image cost, and how does that grow with the batch and with the steps of the structure flow?"
    varies: ClassVar = {
        "batch": f"{', '.join(map(str, BATCHES))} images per call",
        "flow steps": f"{', '.join(map(str, FLOW_STEPS))}, at batch 1 (NVG)",
    }
    reports: ClassVar = {
        "growth": "exponents of the time per call, fitted over batches and flow steps",
        "costs": f"median, smallest and largest of {_REPEATS} calls; memory, energy and FLOPs of each setting",
    }
    limits = (
        "Times hold for this machine, and a busy machine shows it in the range of the repetitions. An exponent over three "
        "batch sizes describes them and is no law. Parts of a model are not timed apart; the profile of a run has "
        "their FLOPs."
    )

    def check(self, runs: Sequence[StudiedRun], context: Context) -> None:
        for run in runs:
            if run.folder.state("generator") is None:
                raise InputError(f"{run.folder.name} has no trained generator; train it first")

    def measure(self, run: StudiedRun, context: Context) -> Tables:
        generator = run.folder.load_generator(context.device)
        rows = []
        settings: list[tuple[str, int, dict[str, Any]]] = [("batch", size, {}) for size in BATCHES]
        if any(entry.name == "flow_steps" for entry in dataclasses.fields(run.folder.config.sampling)):
            settings += [("flow steps", steps, {"flow_steps": steps}) for steps in FLOW_STEPS]
        with context.report(f"costs of {run.folder.name}") as progress:
            for done, (setting, value, changes) in enumerate(settings, start=1):
                batch = value if setting == "batch" else 1
                plan = ProfilePlan(
                    batch_sizes=(batch,), repeats=_REPEATS, warmup=1, energy_seconds=1.0, energy_windows=1, settings=changes
                )
                found = {one.name: one for one in profile_generator(generator, plan, context.device)}
                rows.append({"setting": setting, "value": value, **_cost(found, batch)})
                progress(done, len(settings))
        return {"costs": rows}

    def conclude(self, tables: Mapping[str, list[Row]]) -> Conclusion:
        rows = tables["costs"]
        growth: list[Row] = []
        for run in dict.fromkeys(row["run"] for row in rows):
            for setting in dict.fromkeys(row["setting"] for row in rows if row["run"] == run):
                own = [row for row in rows if (row["run"], row["setting"]) == (run, setting) and row["seconds"] is not None]
                if len(own) > 1:
                    growth.append({"run": run, "setting": setting, **fitted(own)})
        chart = Chart(
            table="costs", y="seconds", x="value", series="run", panel=("setting",), label="seconds per call", log_x=True,
            caption=f"Median time of a call by batch size and by flow steps; bands are the range of {_REPEATS} repetitions.",
        )  # fmt: skip
        return Conclusion(findings=[_finding(row) for row in growth], charts=[chart], tables={"growth": growth})


def fitted(rows: Sequence[Row]) -> Row:
    """Exponent of ``seconds`` over ``value`` by least squares of the logarithms, with the ends of the range."""
    values, seconds = (np.array([row[key] for row in rows], dtype=np.float64) for key in ("value", "seconds"))
    exponent = float(np.polyfit(np.log(values), np.log(seconds), 1)[0])
    first, last = int(values.argmin()), int(values.argmax())
    return {
        "exponent": exponent, "from": float(values[first]), "to": float(values[last]),
        "seconds from": float(seconds[first]), "seconds to": float(seconds[last]),
    }  # fmt: skip


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


def _finding(row: Row) -> Finding:
    unit = "images per call" if row["setting"] == "batch" else "flow steps"
    return Finding(
        text=f"{row['run']}: from {row['from']:g} to {row['to']:g} {unit}, the time of a call grows from "
        f"{row['seconds from']:.3g} to {row['seconds to']:.3g} s, with exponent {row['exponent']:.2f}.",
        subject=row["run"], metric=f"exponent over {row['setting']}", value=row["exponent"],
    )  # fmt: skip
