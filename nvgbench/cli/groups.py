"""The commands, in the order in which ``--help`` lists them."""

from __future__ import annotations

import importlib

import typer

COMMANDS = (
    "presets",
    "data",
    "train",
    "import_run",
    "export",
    "verify",
    "sample",
    "lint",
    "stats",
    "evaluate",
    "compare",
    "doctor",
    "profile",
    "ablate",
    "selftest",
    "gate",
    "report",
)


def register(app: typer.Typer) -> None:
    """Add every command group to ``app``."""
    for name in COMMANDS:
        importlib.import_module(f"nvgbench.cli.{name}").register(app)
