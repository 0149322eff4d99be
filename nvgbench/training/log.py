"""Writing the training log: ``train.jsonl``, one line every ``log_every`` steps, and TensorBoard's files if wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nvgbench.errors import InputError
from nvgbench.files import StrPath, append_line, write_text
from nvgbench.runs.log import log_lines, parse_row


def check_tensorboard() -> Any:
    """TensorBoard's writer.

    Raises:
        InputError: tensorboard is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError(
            "train.tensorboard needs the package tensorboard: pip install 'nvgbench[tensorboard]', or use "
            "`train.tensorboard=false`"
        ) from None
    return SummaryWriter


class TrainLog:
    """The log of a run's training, all phases in one file.

    Args:
        path: of the log.
        tensorboard: folder for TensorBoard's event files, or None.

    Raises:
        InputError: tensorboard is not installed.
    """

    def __init__(self, path: StrPath, tensorboard: StrPath | None = None) -> None:
        self.path = Path(path)
        self._writer: Any = None
        if tensorboard is not None:
            self._writer = check_tensorboard()(tensorboard)

    def rewind(self, phase: str, step: int) -> None:
        """Drop the lines of ``phase`` after ``step``, which a resumed run writes again, and incomplete lines."""
        lines = log_lines(self.path)
        kept = [line for line in lines if (row := parse_row(line)) and (row["phase"] != phase or row["step"] <= step)]
        if kept != lines:
            write_text(self.path, "".join(f"{line}\n" for line in kept))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row: phase, step, losses (by name), lr, grad_norm, images_per_second, seconds."""
        append_line(self.path, json.dumps(row))
        if self._writer is not None:
            for name, value in _flat(row):
                self._writer.add_scalar(f"{row['phase']}/{name}", value, row["step"])

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _flat(row: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in row.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            found.append((f"{prefix}{name}", value))
    return found
