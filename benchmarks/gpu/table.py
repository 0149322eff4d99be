"""The table of all measurements in a folder, as Markdown and as plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks.gpu.bench import conditions, line, number
from nvgbench.files import write_text
from nvgbench.profiling.latency import spread
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import ResultStore
from nvgbench.types import Measurement

_HEAD = ("step", "what", "quantity", "n", "median", "quartiles", "unit", "goal", "", "conditions")


def write_tables(out: Path) -> str:
    """Write ``table.md`` and ``table.txt`` from the records in ``out``; returns the text."""
    records = ResultStore(out).records()
    made = [(record.subject, measurement) for record in records for measurement in record.measurements]
    rows = [_row(subject, measurement) for subject, measurement in made if not _passed(measurement)]
    rows += _passed_rows(made)
    machine = _machine(records)
    text = "\n".join([machine, *_aligned([_HEAD, *rows])]) + "\n"
    ruled = [_HEAD, tuple("---" for _ in _HEAD), *rows]
    markdown = "\n".join([machine, "", *("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in ruled)])
    write_text(out / "table.txt", text)
    write_text(out / "table.md", markdown + "\n")
    return text


def _machine(records: list[RunRecord]) -> str:
    if not records:
        return "no measurements"
    found = records[-1].provenance
    device, libraries = found["device"], found["libraries"]
    parts = [device.get("gpu") or f"CPU, {device['threads']} threads", f"torch {libraries.get('torch')}"]
    parts += [f"CUDA {device['cuda']}"] if "cuda" in device else []
    return ", ".join([*parts, f"Python {found['python']}", f"commit {found['commit']}", found["time"]])


def _row(subject: str, measurement: Measurement) -> tuple[str, ...]:
    found = measurement.conditions
    remark = " ".join(filter(None, [conditions(found), measurement.note]))
    if found.get("check") or not measurement.samples:
        verdict = "FAIL" if measurement.samples else "not measured"
        return (str(found.get("step", "")), subject, measurement.name, "", verdict, "", "", "", "", remark)
    around = spread(measurement.samples)
    goal = found.get("goal")
    reached = "" if goal is None else "ok" if _reached(measurement, goal) else "MISSED"
    quartiles = f"{number(around.low)} … {number(around.high)}"
    return (
        str(found.get("step", "")), subject, measurement.name, str(len(measurement.samples)), number(around.median), quartiles,
        measurement.unit, "" if goal is None else number(goal), reached, remark,
    )  # fmt: skip


def _passed(measurement: Measurement) -> bool:
    return bool(measurement.conditions.get("check") and measurement.samples[0])


def _passed_rows(made: list[tuple[str, Measurement]]) -> list[tuple[str, ...]]:
    """One row for the checks of a step that hold."""
    counts = Counter((str(found.conditions["step"]), subject) for subject, found in made if _passed(found))
    return [
        (step, subject, "checks", str(count), "pass", "", "", "", "", _only_remark(made, step, subject, count))
        for (step, subject), count in counts.items()
    ]


def _only_remark(made: list[tuple[str, Measurement]], step: str, subject: str, count: int) -> str:
    remarks = [found.note for name, found in made if (found.conditions["step"], name) == (step, subject) and _passed(found)]
    return remarks[0] if count == 1 else ""


def _reached(measurement: Measurement, goal: float) -> bool:
    return measurement.median >= goal if measurement.higher_is_better else measurement.median <= goal


def _aligned(rows: Iterable[tuple[str, ...]]) -> list[str]:
    rows = list(rows)
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def failed_checks(out: Path) -> list[str]:
    """One line per check that does not hold."""
    found = [(record.subject, made) for record in ResultStore(out).records() for made in record.measurements]
    return [line(subject, made) for subject, made in found if made.conditions.get("check") and not made.samples[0]]
