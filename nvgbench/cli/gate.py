"""``nvgbench gate``: has anything become worse?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from nvgbench.cli.options import DEFAULT_RUNS, RecordFiles, RulesFile, RunNames, RunsRoot
from nvgbench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nvgbench.gates.schema import Verdict
    from nvgbench.gates.selftest import Rate

JsonFile = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write JSON; - for standard output.")]

SUMMARY_VARIABLE = "GITHUB_STEP_SUMMARY"


class _GateGroup(TyperGroup):
    """``nvgbench gate --baseline FILE`` is ``nvgbench gate check --baseline FILE``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] not in ctx.help_option_names):
            args = ["check", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    gate = typer.Typer(
        cls=_GateGroup,
        help="Compare the newest records with a baseline (check, the default), count costs, or test the gate itself.",
    )
    gate.command()(check)
    gate.command()(cost)
    gate.command()(selftest)
    app.add_typer(gate, name="gate")


def check(
    baseline: Annotated[Path, typer.Option(help="Baseline file, written by --update.")],
    targets: RunNames = None,
    records: RecordFiles = None,
    rules: RulesFile = None,
    update: Annotated[bool, typer.Option("--update", help="Write the newest records into the baseline instead.")] = False,
    json_file: JsonFile = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write a Markdown summary.")] = None,
    github_summary: Annotated[bool, typer.Option("--github-summary", help=f"Append Markdown to ${SUMMARY_VARIABLE}.")] = False,
    runs: RunsRoot = DEFAULT_RUNS,
) -> None:
    """Compare the newest records with a baseline of the same environment, metric by metric.

    If runs or record files are named, only their subjects are judged; else every subject of the baseline must have records.

    Exit code 0: pass, 1: a blocking rule failed, 3: none failed, but one is undecided, 2: bad input, or scores that are not
    comparable (another number of images, reference or extractor).
    """
    from nvgbench.api import jobs
    from nvgbench.gates.baseline import update_baseline
    from nvgbench.gates.outputs import as_json, as_junit, as_markdown, as_text
    from nvgbench.gates.schema import EXIT_CODES
    from nvgbench.gates.trainings import group_names
    from nvgbench.results.store import records_of

    summary = _summary_file() if github_summary else None
    newest = [located.record for located in records_of(targets or (), records or (), runs)]
    if update:
        written = update_baseline(baseline, newest)
        groups = group_names(written)
        as_groups = f"; judged as groups of trainings: {', '.join(groups)}" if groups else ""
        typer.echo(f"{baseline}: {len(written.records)} records of {', '.join(written.subjects)}{as_groups}")
        return
    verdicts = jobs.gate(baseline, newest, rules=rules, whole=not (targets or records))
    _write(verdicts, ((junit, as_junit), (markdown, as_markdown)))
    if summary is not None:
        with summary.open("a", encoding="utf-8") as handle:
            handle.write(as_markdown(verdicts) + "\n")
    _show(as_text(verdicts), as_json(verdicts), json_file)
    raise typer.Exit(EXIT_CODES[verdicts.outcome])


def cost(
    presets: Annotated[list[str], typer.Argument(help="Names from 'nvgbench presets'.")],
    out: Annotated[Path, typer.Option(help="Records file to write or replace.")] = DEFAULT_RUNS / "cost.jsonl",
) -> None:
    """Count parameters, FLOPs and modelled memory of presets, for an exact gate; nothing is trained or downloaded."""
    from nvgbench.config.load import load_preset
    from nvgbench.files import write_text
    from nvgbench.results.store import encode_record
    from nvgbench.training.cost_record import cost_record

    configs = [load_preset(preset) for preset in presets]
    records = [cost_record(config) for config in configs]
    write_text(out, "".join(encode_record(record) + "\n" for record in records))
    typer.echo(f"{out}: costs of {', '.join(record.subject for record in records)}")


def selftest(
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs whose intervals set the noise level.")
    ] = None,
    records: RecordFiles = None,
    rules: RulesFile = None,
    pairs: Annotated[int, typer.Option(help="Pairs of evaluations of each kind.")] = 200,
    loss: Annotated[float, typer.Option(help="Planted change, as a share of the score.")] = 0.05,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all noise.")] = 0,
    json_file: JsonFile = None,
    runs: RunsRoot = DEFAULT_RUNS,
) -> None:
    """Measure how often the gate raises a false alarm (A/A) and how often it catches a planted change (A/B).

    Without runs or records, features are simulated and scored as in an evaluation; with them, recorded scores are moved by the
    noise that their intervals state. Exit code 0: the promises are kept, 1: one is broken, 2: bad input.
    """
    from nvgbench.cli.progress import counting
    from nvgbench.gates.rules import load_rules
    from nvgbench.gates.selftest import recorded_draw
    from nvgbench.gates.selftest import selftest as measure
    from nvgbench.results.store import records_of

    known_rules = load_rules(rules)
    if targets or records:
        draw = recorded_draw([located.record for located in records_of(targets or (), records or (), runs)])
        source = "recorded scores moved by the noise that their intervals state"
    else:
        from nvgbench.evaluation.simulation import simulated_draw

        draw = simulated_draw(seed)
        source = "simulated features, scored as in an evaluation"
    with counting("self-test of the gate", "pairs") as progress:
        rates = measure(known_rules, draw, pairs=pairs, loss=loss, seed=seed, progress=lambda done: progress(done, pairs))
    broken = any(rate.broken for rate in rates)
    _show(_rates_text(rates, source, broken), _rates_json(rates, source, broken), json_file)
    raise typer.Exit(1 if broken else 0)


def _summary_file() -> Path:
    import os

    name = os.environ.get(SUMMARY_VARIABLE)
    if not name:
        raise InputError(
            f"--github-summary: ${SUMMARY_VARIABLE} is not set; only GitHub Actions sets it; elsewhere use --markdown"
        )
    return Path(name)


def _write(verdicts: Sequence[Verdict], files: Sequence[tuple[Path | None, Callable[[Sequence[Verdict]], str]]]) -> None:
    from nvgbench.files import write_text

    for path, form in files:
        if path is not None:
            write_text(path, form(verdicts))


def _show(text: str, tree: str, json_file: str | None) -> None:
    """Print the text, unless JSON goes to standard output."""
    from nvgbench.files import write_text

    if json_file == "-":
        typer.echo(tree, nl=False)
        return
    if json_file is not None:
        write_text(Path(json_file), tree)
    typer.echo(text)


def _rates_text(rates: Sequence[Rate], source: str, broken: bool) -> str:
    lines = [f"noise: {source}"]
    for rate in rates:
        low, high = rate.interval
        line = f"{rate.name:<32} {rate.count:>4} of {rate.pairs} = {rate.share:.1%} ({low:.1%} to {high:.1%})"
        if rate.promised is not None:
            bound = "at most" if rate.at_most else "at least"
            line += f", promised {bound} {rate.promised:.0%}: {'BROKEN' if rate.broken else 'kept'}"
        lines.append(line)
    return "\n".join([*lines, "FAILED: a promise is broken" if broken else "passed: the promises are kept"])


def _rates_json(rates: Sequence[Rate], source: str, broken: bool) -> str:
    import dataclasses
    import json

    rows = [
        {**dataclasses.asdict(rate), "share": rate.share, "interval": rate.interval, "broken": rate.broken} for rate in rates
    ]
    return json.dumps({"broken": broken, "noise": source, "rates": rows}, indent=1) + "\n"
