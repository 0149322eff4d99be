"""The record of a training in ``records.jsonl``."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from nvgbench.config.load import changed_settings
from nvgbench.results.provenance import collect
from nvgbench.results.records import Records
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import ResultStore
from nvgbench.runs.checkpoint import EMA, WEIGHTS, CheckpointState
from nvgbench.runs.folder import PHASES, RunFolder
from nvgbench.runs.log import read_log
from nvgbench.training.precision import resolve_precision
from nvgbench.types import Measurement

# Measurement -> key in the training log (see `nvgbench.training.speed`), unit, whether higher is better.
_SPEED = {
    "training_mfu": ("mfu", "of the matrix product's rate", True),
    "training_data_share": ("data_share", "of the time", False),
    "training_peak_memory": ("peak_memory", "B", False),
}
# More points than this cannot be seen in the report's curves.
_CURVE_POINTS = 200


def append_train_record(run: RunFolder, device: torch.device, world_size: int) -> RunRecord | None:
    """Write the record of the finished phases, unless the last training record already covers them.

    Settings that were changed on the way are listed as ``segments``.

    Tables: ``training`` (one row per phase: steps, images, seconds, images_per_second, parameters, final losses by name) and
    ``curve`` (at most 200 rows per phase of the training log). Measurements per phase: ``training_time`` (seconds),
    ``training_throughput`` (images/s), ``training_mfu`` and ``training_data_share`` (a sample per line of the log),
    ``training_peak_memory`` and ``training_memory`` by part (bytes).

    Raises:
        OSError: the file cannot be written.
    """
    states = {phase: state for phase in PHASES if (state := run.state(phase)) is not None and state.final}
    store = ResultStore(run.records_path)
    phases = sorted(states)
    written = Records(store.records()).select(kind="train", subject=run.name)
    segments = run.segments
    parts: dict[str, Any] = {"segments": [asdict(segment) for segment in segments]} if len(segments) > 1 else {}
    current = {"phases": phases, "config_hash": segments[-1].hash}
    if not states or (written and all(written[-1].provenance.get(key) == value for key, value in current.items())):
        return None
    config, dataset = run.config, run.dataset
    trained = {phase: state for phase, state in states.items() if not state.source}
    origins: dict[str, Any] = {"origins": run.origins} if run.origins else {}
    conditions: dict[str, Any] = {"device": _device_name(device), "processes": world_size}
    rows = read_log(run.log_path)
    record = RunRecord(
        kind="train",
        subject=run.name,
        family=config.family,
        preset=config.name,
        measurements=tuple(
            measurement
            for phase, state in trained.items()
            for measurement in _measurements(state, rows, conditions | {"batch_size": getattr(config.train, phase).batch_size})
        ),
        tables={
            "training": [_summary(state, rows) for state in states.values()],
            "curve": [point for phase in trained for point in _curve([row for row in rows if row["phase"] == phase])],
        },
        provenance=collect(
            segments[-1].hash,
            phases=phases,
            seeds=[config.train.seed],
            replicate=run.replicate,
            changed=changed_settings(config),
            weights={phase: _weights(state) for phase, state in states.items()},
            dataset={"name": dataset.name, "images": dataset.images, "fingerprint": dataset.fingerprint}
            | ({"accepted": list(dataset.accepted)} if dataset.accepted else {}),
            **parts,
            precision=resolve_precision(config.train.precision, device),
            notes={phase: list(state.notes) for phase, state in states.items() if state.notes},
            **origins,
            tokenizer_from=states["tokenizer"].source if "tokenizer" in states else {},
            **conditions,
        ),
    )
    store.append(record)
    return record


def _measurements(state: CheckpointState, rows: list[dict[str, Any]], conditions: dict[str, Any]) -> list[Measurement]:
    conditions = {"phase": state.phase, "steps": state.step, **conditions}
    rate = state.images / max(state.seconds, 1e-9)
    found = [
        Measurement(name="training_time", unit="s", samples=(state.seconds,), conditions=conditions),
        Measurement(name="training_throughput", unit="images/s", samples=(rate,), higher_is_better=True, conditions=conditions),
    ]
    speeds = [row["speed"] for row in rows if row["phase"] == state.phase and "speed" in row]
    for name, (key, unit, better) in _SPEED.items():
        if samples := tuple(speed[key] for speed in speeds if key in speed):
            found.append(Measurement(name=name, unit=unit, samples=samples, higher_is_better=better, conditions=conditions))
    for part, size in state.memory.items():
        found.append(Measurement(name="training_memory", unit="B", samples=(size,), conditions={**conditions, "part": part}))
    return found


def _summary(state: CheckpointState, rows: list[dict[str, Any]]) -> dict[str, Any]:
    last = next((row for row in reversed(rows) if row["phase"] == state.phase), None)
    return {
        "phase": state.phase,
        "steps": state.step,
        "images": state.source.get("images", state.images),  # of a tokenizer that was taken: those it saw before
        "seconds": state.seconds,
        "images_per_second": state.images / state.seconds if state.seconds else None,
        **_compilation(state, rows),
        **{f"parameters/{name}": count for name, count in state.parameters.items()},
        **({f"loss/{name}": value for name, value in last["losses"].items()} if last and not state.source else {}),
        "taken_from": state.source.get("run") or state.source.get("file", ""),
    }


def _compilation(state: CheckpointState, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds of compilation in the process that logged most of it; none if nothing was compiled."""
    speeds = [row.get("speed", {}) for row in rows if row["phase"] == state.phase]
    found = max((speed.get("compile_seconds", 0.0) for speed in speeds), default=0.0)
    return {"compile_seconds": found} if found else {}


def _curve(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    if len(rows) > _CURVE_POINTS:
        step = (len(rows) - 1) / (_CURVE_POINTS - 1)
        rows = [rows[round(index * step)] for index in range(_CURVE_POINTS)]
    return [
        {
            "phase": row["phase"],
            "step": row["step"],
            "lr": row["lr"],
            **{f"loss/{name}": v for name, v in row["losses"].items()},
        }
        for row in rows
    ]


def _weights(state: CheckpointState) -> list[str]:
    """SHA-256 of the phase's weights, and of their moving average if there is one."""
    return [digest for name, digest in state.files.items() if name in (WEIGHTS, EMA)]


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
