"""``nvgbench report``: everything on one page."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from nvgbench.cli.options import DEFAULT_RUNS, Force, RecordFiles, RulesFile, RunNames, RunsRoot
from nvgbench.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def report(
        targets: RunNames = None,
        records: RecordFiles = None,
        everything: Annotated[bool, typer.Option("--all", help="Everything below --runs, in addition to --records.")] = False,
        out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("reports/index.html"),
        title: Annotated[str | None, typer.Option(help="Heading of the page.")] = None,
        baseline: Annotated[Path | None, typer.Option(help="Also show what moved since this baseline of a gate.")] = None,
        rules: RulesFile = None,
        force: Force = False,
        data_pictures: Annotated[
            bool, typer.Option("--data-pictures/--no-data-pictures", help="With or without images of the data set.")
        ] = True,
        history: Annotated[
            list[Path] | None, typer.Option(help="JSON beside an earlier report, part of the scores' history; repeatable.")
        ] = None,
        serve: Annotated[
            bool, typer.Option("--serve", help="Follow trainings in a browser of this machine instead; Ctrl-C ends it.")
        ] = False,
        port: Annotated[int, typer.Option(help="For --serve: port of the loopback interface.", min=0, max=65535)] = 8765,
        runs: RunsRoot = DEFAULT_RUNS,
    ) -> None:
        """Build one self-contained HTML page from records and their pictures."""
        from nvgbench.api import jobs
        from nvgbench.reporting.build import DEFAULT_TITLE

        places = [*(targets or ()), *(records or ())]
        if everything and places:
            places.append(runs)

        def write(out: Path) -> Path:
            return jobs.report(
                *places, out=out, title=title or DEFAULT_TITLE, baseline=baseline, rules=rules, force=force,
                data_pictures=data_pictures, history=history or (), runs=runs,
            )  # fmt: skip

        if serve:
            _serve(runs, write, port)
            return
        written = write(out)
        typer.echo(f"{written}: {written.stat().st_size / 1e6:.1f} MB; numbers in .json and .csv beside it")


def _serve(runs: Path, write: Callable[[Path], Path], port: int) -> None:
    """Serve until Ctrl-C."""
    from nvgbench.serving.server import LiveServer

    if not runs.is_dir():
        raise InputError(f"--runs {runs} is not a folder; give the folder of runs to follow")
    try:
        server = LiveServer(runs, write, port)
    except OSError as error:
        raise InputError(f"--port {port} cannot be used ({error.strerror}); choose another, or 0 for any free one") from None
    with server, contextlib.suppress(KeyboardInterrupt):
        typer.echo(f"{server.address} follows {runs}; Ctrl-C ends it")
        server.serve_forever()
