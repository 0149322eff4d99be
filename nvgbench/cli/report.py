"""``nvgbench report``: everything on one page."""

from __future__ import annotations

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
        runs: RunsRoot = DEFAULT_RUNS,
    ) -> None:
        """Build one self-contained HTML page from records and their pictures."""
        from nvgbench.gates.baseline import read_baseline
        from nvgbench.gates.rules import load_rules
        from nvgbench.gates.verdicts import evaluate_gates
        from nvgbench.reporting.build import DEFAULT_TITLE, render_report
        from nvgbench.reporting.galleries import without_data_pictures
        from nvgbench.results.store import records_of

        if not out.name:
            raise InputError(f"--out {str(out)!r} is not a file name; use one such as reports/index.html")
        files = [*(records or ()), *([runs] if everything else [])]
        located = records_of(targets or (), files, runs)
        if not data_pictures:
            located = without_data_pictures(located)
        verdicts = []
        if baseline is not None:
            found = [one.record for one in located]
            whole = not (targets or records)
            verdicts = evaluate_gates(load_rules(rules), read_baseline(baseline), found, whole=whole)
        written = render_report(located, out, title=title or DEFAULT_TITLE, verdicts=verdicts, force=force)
        size = written.stat().st_size / 1e6
        typer.echo(f"{written}: {len(located)} records, {size:.1f} MB; numbers in .json and .csv beside it")
