"""``nvgbench gate``: has anything become worse?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nvgbench.cli.options import DEFAULT_RUNS, RunsRoot

if TYPE_CHECKING:
    from nvgbench.gates.schema import Verdict


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def gate(
        baseline: Annotated[Path, typer.Option(help="Baseline file, written by --update.")],
        targets: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs; all below --runs if none.")] = None,
        records: Annotated[list[Path] | None, typer.Option(help="A records.jsonl, or a folder of such. Repeatable.")] = None,
        rules: Annotated[
            Path | None,
            typer.Option(help="TOML file of rules; built-in ones if not given."),
        ] = None,
        update: Annotated[bool, typer.Option("--update", help="Write the baseline from the newest records instead.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
        runs: RunsRoot = DEFAULT_RUNS,
    ) -> None:
        """Compare the newest records with a baseline, metric by metric.

        Exit code 0: nothing failed (inconclusive lines are printed), 1: a blocking rule failed, 2: bad input, or scores that
        must not be compared (another number of images, reference or extractor).
        """
        from nvgbench.gates.baseline import read_baseline, write_baseline
        from nvgbench.gates.rules import load_rules
        from nvgbench.gates.verdicts import evaluate_gates, gate_fails
        from nvgbench.results.store import records_of

        known_rules = load_rules(rules)
        newest = [located.record for located in records_of(targets or (), records or (), runs)]
        if update:
            typer.echo(f"{baseline}: baseline of {write_baseline(baseline, newest)} records written")
            return
        verdicts = evaluate_gates(known_rules, read_baseline(baseline), newest)
        failed = gate_fails(verdicts)
        if as_json:
            typer.echo(_json(verdicts, failed))
        else:
            _print(verdicts, failed)
        raise typer.Exit(1 if failed else 0)


def _json(verdicts: list[Verdict], failed: bool) -> str:
    import dataclasses
    import json

    from nvgbench.results.store import plain

    tree = {"failed": failed, "verdicts": [plain(dataclasses.asdict(verdict)) for verdict in verdicts]}
    return json.dumps(tree, indent=1, ensure_ascii=False, allow_nan=False)


def _print(verdicts: list[Verdict], failed: bool) -> None:
    """One line a verdict, plain enough for logs and for grep."""
    from nvgbench.report.quantities import significant

    def number(value: float | None) -> str:
        return "none" if value is None else significant(value, 5)

    width = max(len(f"{verdict.subject} {verdict.metric}") for verdict in verdicts)
    for verdict in verdicts:
        advisory = "" if verdict.blocking else " (advisory)"
        name = f"{verdict.subject} {verdict.metric}".ljust(width)
        change = f"{number(verdict.baseline)} -> {number(verdict.value)}"
        typer.echo(f"{verdict.outcome.ljust(12)}  {name}  {change}  {verdict.reason}{advisory}")
    counts = {outcome: sum(verdict.outcome == outcome for verdict in verdicts) for outcome in ("pass", "fail", "inconclusive")}
    summary = ", ".join(f"{number} {outcome}" for outcome, number in counts.items())
    typer.echo(f"{'FAILED' if failed else 'passed'}: {summary}")
