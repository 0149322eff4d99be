"""``nvgbench export``: write a run's weights in the layout of the original project."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from nvgbench.cli.options import DEFAULT_RUNS, RunsRoot, WeightsKind


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def export(
        run: Annotated[str, typer.Argument(help="A run folder, or its name in --runs.")],
        out: Annotated[Path, typer.Option(help="File to write: .pth for VAR, .ckpt for NVG.")],
        part: Annotated[Literal["generator", "tokenizer"], typer.Option(help="Part to write.")] = "generator",
        step: Annotated[
            int | None, typer.Option(min=1, help="Checkpoint of this step of the part; the last by default.")
        ] = None,
        weights_kind: WeightsKind = "averaged",
        runs: RunsRoot = DEFAULT_RUNS,
    ) -> None:
        """Write weights in the original layout; for an imported run, exactly the tensors of the imported file."""
        from nvgbench.runs.find import find_run
        from nvgbench.weights.exports import export_part

        lost = export_part(find_run(run, runs), part, out, weights=weights_kind, step=step)
        typer.echo(f"{part}: {out}, {out.stat().st_size / 2**20:,.1f} MiB")
        if lost:
            typer.echo(f"note: the original layout cannot store {', '.join(lost)}", err=True)
