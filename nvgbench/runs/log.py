"""Reading training logs, ``train.jsonl``; `nvgbench.training.log` writes them."""

from __future__ import annotations

import json
from typing import Any

from nvgbench.files import StrPath


def read_log(path: StrPath) -> list[dict[str, Any]]:
    """The rows of a training log, incomplete lines left out; empty if there is no file."""
    return [row for line in log_lines(path) if (row := parse_row(line)) is not None]


def log_lines(path: StrPath) -> list[str]:
    """The lines of a training log as they are; empty if there is no file."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            return handle.read().splitlines()
    except FileNotFoundError:
        return []


def parse_row(line: str) -> dict[str, Any] | None:
    """A row of a training log: phase, step, losses by name …; None if the line is incomplete."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and "phase" in row and "step" in row else None
