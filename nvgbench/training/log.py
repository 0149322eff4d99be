"""Writing the training log: ``train.jsonl``, one line every ``log_every`` steps, and to other loggers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nvgbench.files import StrPath, append_line, write_text
from nvgbench.runs.log import log_lines, parse_row
from nvgbench.training.loggers import Logger


class TrainLog:
    """The log of a run's training, all phases in one file.

    Args:
        path: of the log.
        loggers: which get the same; `close` closes them.
    """

    def __init__(self, path: StrPath, loggers: Sequence[Logger] = ()) -> None:
        self.path = Path(path)
        self._loggers = loggers

    def rewind(self, phase: str, step: int) -> None:
        """Drop the lines of ``phase`` after ``step``, which a resumed run writes again, and incomplete lines."""
        lines = log_lines(self.path)
        kept = [line for line in lines if (row := parse_row(line)) and (row["phase"] != phase or row["step"] <= step)]
        if kept != lines:
            write_text(self.path, "".join(f"{line}\n" for line in kept))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row: phase, step, losses (by name), lr, grad_norm, images_per_second, seconds."""
        append_line(self.path, json.dumps(row))
        for logger in self._loggers:
            logger.row(row)

    def picture(self, phase: str, step: int, path: Path) -> None:
        """Show a PNG of reconstructions or samples that lies at ``path``."""
        for logger in self._loggers:
            logger.picture(phase, step, path)

    def close(self) -> None:
        for logger in self._loggers:
            logger.close()
