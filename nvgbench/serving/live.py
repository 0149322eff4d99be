"""The state of trainings and studies as their folders show it. Only reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvgbench.errors import InputError
from nvgbench.runs.find import find_runs
from nvgbench.runs.folder import PHASES, RunFolder
from nvgbench.runs.lock import LOCK
from nvgbench.runs.log import read_log

QUEUES = "queue-*.json"
"""Files that studies leave in the folder of their trainings, with the list of them."""
_MOST_PICTURES = 2
_POINTS = 300
"""Points of a curve; of longer ones every second, third … point is drawn."""

Curve = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class RunState:
    """One run.

    Attributes:
        name: its path below the folder of runs.
        state: ``training``, ``finished``, ``stopped`` or ``waiting``.
        phase: of the last line of the log; empty before the first.
        step, total_steps: of that phase; the total is None before its first checkpoint.
        seconds: spent in the phase.
        rate: images per second.
        curves: phase -> loss -> (step, value).
        pictures: newest first, paths below the folder of runs.
        modified: time of the last change, seconds since 1970.
    """

    name: str
    state: str
    phase: str = ""
    step: int = 0
    total_steps: int | None = None
    seconds: float = 0.0
    rate: float | None = None
    curves: Mapping[str, Mapping[str, Curve]]
    pictures: Sequence[str]
    modified: float


@dataclass(frozen=True, kw_only=True)
class Queue:
    """The trainings of a study, in order, each with its state."""

    study: str
    jobs: Sequence[tuple[str, str]]


@dataclass(frozen=True, kw_only=True)
class Live:
    """Everything that the live page shows; runs that changed last come first."""

    runs: Sequence[RunState]
    queues: Sequence[Queue]


def signature(root: Path) -> str:
    """Changes when a log, a lock, a picture, a checkpoint, a queue or a record below ``root`` does."""
    newest, count = 0, 0
    for pattern in ("train.jsonl", LOCK, "*.png", "state.json", QUEUES, "records.jsonl"):
        for path in root.rglob(pattern):
            try:
                newest, count = max(newest, path.stat().st_mtime_ns), count + 1
            except OSError:  # removed meanwhile
                continue
    return f"{newest:x}-{count:x}"


def read_live(root: Path) -> Live:
    """The runs and studies below ``root``; runs whose files are damaged or disappear meanwhile are left out."""
    runs = [state for run in find_runs(root) if (state := _run_state(run, root)) is not None]
    runs.sort(key=lambda run: (run.state != "training", -run.modified))
    states = {run.name: run.state for run in runs}
    return Live(runs=runs, queues=list(_queues(root, states)))


def _run_state(run: RunFolder, root: Path) -> RunState | None:
    try:
        rows = read_log(run.log_path)
        last = rows[-1] if rows else {}
        phase = str(last.get("phase", ""))
        checkpoint = run.state(phase) if phase in PHASES else None
        pictures = sorted((run.path / "pictures").glob("*.png"), key=lambda path: -path.stat().st_mtime_ns)
        modified = max((path.stat().st_mtime for path in (run.log_path, *pictures[:1]) if path.exists()), default=0.0)
        rate = last.get("images_per_second")
        return RunState(
            name=run.path.relative_to(root).as_posix(),
            state="training" if (run.path / LOCK).exists() else _resting(run, rows),
            phase=phase,
            step=int(last.get("step", 0)),
            total_steps=None if checkpoint is None else checkpoint.total_steps,
            seconds=float(last.get("seconds") or 0),
            rate=float(rate) if isinstance(rate, int | float) else None,
            curves=_curves(rows),
            pictures=[path.relative_to(root).as_posix() for path in pictures[:_MOST_PICTURES]],
            modified=modified,
        )
    except (InputError, OSError, ValueError, TypeError):
        return None


def _resting(run: RunFolder, rows: Sequence[Any]) -> str:
    if run.is_finished():
        return "finished"
    return "stopped" if rows else "waiting"


def _curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Curve]]:
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        for name, value in (row.get("losses") or {}).items():
            if isinstance(value, int | float) and "averaged" not in name:
                found.setdefault(str(row["phase"]), {}).setdefault(name, []).append((float(row["step"]), float(value)))
    return {
        phase: {name: curve[:: max(1, len(curve) // _POINTS)] for name, curve in losses.items()}
        for phase, losses in found.items()
    }


def _queues(root: Path, states: Mapping[str, str]) -> Iterator[Queue]:
    for path in sorted(root.rglob(QUEUES)):
        try:
            tree = json.loads(path.read_text(encoding="utf-8"))
            folders = [Path(os.path.relpath(path.parent / job["folder"], root)).as_posix() for job in tree["jobs"]]
            jobs = [(str(job["name"]), states.get(name, "waiting")) for job, name in zip(tree["jobs"], folders, strict=True)]
            yield Queue(study=str(tree["study"]), jobs=jobs)
        except (OSError, ValueError, KeyError, TypeError):
            continue
