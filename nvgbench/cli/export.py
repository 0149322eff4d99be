"""``nvgbench export``: a run's weights as the original project would store them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from nvgbench.cli.options import DEFAULT_RUNS, RunsRoot


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def export(
        run: Annotated[str, typer.Argument(help="A run folder, or its name under --runs.")],
        out: Annotated[Path, typer.Option(help="File to write: .pth for VAR, .ckpt for NVG.")],
        part: Annotated[Literal["generator", "tokenizer"], typer.Option(help="What to write.")] = "generator",
        runs: RunsRoot = DEFAULT_RUNS,
    ) -> None:
        """Write weights in the original layout; of an imported run exactly the tensors of the file it was made of."""
        from nvgbench.runs.find import find_run
        from nvgbench.weights.exports import export_part

        not_carried = export_part(find_run(run, runs), part, out)
        typer.echo(f"{part}: {out}, {out.stat().st_size / 2**20:,.1f} MiB")
        if not_carried:
            typer.echo(f"note: the original layout does not carry {', '.join(not_carried)}", err=True)
