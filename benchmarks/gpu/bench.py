"""Times workloads and writes each result as a record at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nvgbench.device import describe_device
from nvgbench.profiling.machine import synchronize
from nvgbench.results.provenance import collect
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import ResultStore
from nvgbench.types import Measurement

_MAX_REPEATS = 200


@dataclass
class Bench:
    """Given to every step.

    Attributes:
        step: its name.
        device: where to measure.
        out: folder of ``records.jsonl``.
        tiny: whether to use the tiny presets and small sizes.
        seconds: time spent on the repetitions of one workload.
    """

    step: str
    device: torch.device
    out: Path
    tiny: bool
    seconds: float = 1.5
    _provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def time(self, workload: Callable[[], object], *, warmup: int = 2, repeats: int = 5) -> tuple[float, ...]:
        """Seconds of each call while the device is otherwise idle: ``repeats`` at least, more for short workloads."""
        for _ in range(warmup):
            workload()
        samples: list[float] = []
        while len(samples) < repeats or (sum(samples) < self.seconds and len(samples) < _MAX_REPEATS):
            synchronize(self.device)
            began = time.perf_counter()
            workload()
            synchronize(self.device)
            samples.append(time.perf_counter() - began)
        return tuple(samples)

    def add(
        self,
        subject: str,
        name: str,
        unit: str,
        samples: tuple[float, ...],
        *,
        goal: float | None = None,
        higher_is_better: bool | None = None,
        note: str = "",
        **conditions: Any,
    ) -> None:
        """Write a measurement and print its row.

        Args:
            subject: what was measured, e.g. a preset.
            name, unit, samples, note: see `nvgbench.types.Measurement`.
            goal: what must be reached on one H100, in the same unit; ignored with tiny sizes.
            higher_is_better: for rates; by default everything in ``…/s`` is one.
            conditions: batch, precision, compiled or captured, compile seconds …
        """
        better = unit.endswith("/s") if higher_is_better is None else higher_is_better
        if goal is not None and not self.tiny:
            conditions["goal"] = goal
        measured = Measurement(
            name=name, unit=unit, samples=tuple(samples), higher_is_better=better,
            conditions={"step": self.step, **conditions}, note=note,
        )  # fmt: skip
        self._write(subject, measured)

    def check(self, subject: str, name: str, passed: bool, remark: str = "", **conditions: Any) -> None:
        """Write whether something holds."""
        conditions = {"step": self.step, "check": True, **conditions}
        made = Measurement(
            name=name, unit="", samples=(float(passed),), higher_is_better=True, conditions=conditions, note=remark
        )
        self._write(subject, made)

    def _write(self, subject: str, measurement: Measurement) -> None:
        if not self._provenance:
            described = describe_device(self.device)
            self._provenance = collect(gpu=described.get("gpu"), device=described)
        record = RunRecord(kind="profile", subject=subject, measurements=(measurement,), provenance=self._provenance)
        ResultStore(self.out).append(record)
        print(line(subject, measurement), flush=True)


def line(subject: str, measurement: Measurement) -> str:
    """One line for the log."""
    if measurement.conditions.get("check"):
        value = "pass" if measurement.samples[0] else "FAIL"
    elif measurement.samples:
        value = f"{number(measurement.median)} {measurement.unit}"
    else:
        value = "-"
    return "  ".join(filter(None, [subject, measurement.name, value, conditions(measurement.conditions), measurement.note]))


def conditions(found: Mapping[str, Any]) -> str:
    """Conditions as ``key=value``, without those that have columns of their own."""
    return " ".join(f"{key}={_short(value)}" for key, value in found.items() if key not in ("step", "check", "goal"))


def number(value: float) -> str:
    """Four significant digits or all before the point, without an exponent for usual sizes."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e8 else f"{value:.4g}"


def _short(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)
