"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RunsRoot = Annotated[Path, typer.Option("--runs", envvar="NVGBENCH_RUNS", help="Folder that holds the runs.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Overrides = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. train.steps=100 or sampling.top_k=5. Repeatable."),
]

DEFAULT_RUNS = Path("runs")
