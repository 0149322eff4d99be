"""The training log: ``train.jsonl``, one line every ``log_every`` steps, and TensorBoard where it is asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nvgbench.errors import InputError
from nvgbench.files import append_line, write_text


class TrainLog:
    """Lines of a run's training, all phases in one file."""

    def __init__(self, path: Path, tensorboard: Path | None = None) -> None:
        """``tensorboard``: folder for event files, or None.

        Raises:
            InputError: TensorBoard is asked for and not installed.
        """
        self.path = path
        self._writer: Any = None
        if tensorboard is not None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise InputError(
                    "train.tensorboard = true needs the tensorboard package; install nvgbench[tensorboard] or set it to false"
                ) from None
            self._writer = SummaryWriter(tensorboard)

    def rewind(self, phase: str, step: int) -> None:
        """Drop the lines of ``phase`` after ``step``, and a last line cut short: what a resumed run is about to write again."""
        if not self.path.exists():
            return
        lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = [line for line in lines if _belongs(line, phase, step)]
        if kept != lines:
            write_text(self.path, "".join(f"{line}\n" for line in kept))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a line: phase, step, losses (by name), lr, grad_norm, images_per_second, seconds."""
        append_line(self.path, json.dumps(row))
        if self._writer is not None:
            for name, value in _flat(row):
                self._writer.add_scalar(f"{row['phase']}/{name}", value, row["step"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def read_log(path: Path) -> list[dict[str, Any]]:
    """All whole lines of a training log; none where there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [row for line in lines if (row := _parse(line)) is not None]


def _belongs(line: str, phase: str, step: int) -> bool:
    row = _parse(line)
    return row is not None and (row["phase"] != phase or row["step"] <= step)


def _parse(line: str) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and "phase" in row and "step" in row else None


def _flat(row: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            found.append((f"{prefix}{name}", value))
    return found
