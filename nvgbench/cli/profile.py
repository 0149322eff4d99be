"""``nvgbench profile``: time, memory and energy of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from nvgbench.cli.options import DEFAULT_RUNS, Device, Overrides, RunsRoot, Step, WeightsKind
from nvgbench.cli.published import PublishedTokenizer, Weights, import_first

if TYPE_CHECKING:
    from nvgbench.results.schema import RunRecord


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def profile(
        targets: Annotated[list[str], typer.Argument(help="Presets (with random weights) or runs, imported ones included.")],
        batch_sizes: Annotated[str, typer.Option(help="Comma-separated; latency at 1, throughput above.")] = "1,8",
        repeats: Annotated[int, typer.Option(help="Timed calls per batch size.")] = 10,
        warmup: Annotated[int, typer.Option(help="Calls before them, not timed.")] = 2,
        energy_seconds: Annotated[float, typer.Option(help="Shortest window of an energy reading, seconds.")] = 3.0,
        classes: Annotated[
            int | None, typer.Option(min=1, help="Number of classes of a preset whose data set is unknown.")
        ] = None,
        seed: Annotated[int, typer.Option(help="Seed of a preset's random weights.")] = 0,
        weights: Weights = None,
        tokenizer: PublishedTokenizer = None,
        step: Step = None,
        weights_kind: WeightsKind = "averaged",
        settings: Overrides = [],  # noqa: B006 - typer reads the default, nobody changes it
        device: Device = "auto",
        runs: RunsRoot = DEFAULT_RUNS,
        as_json: Annotated[bool, typer.Option("--json", help="Print the records instead of tables.")] = False,
    ) -> None:
        """Measure parameters, FLOPs, latency, throughput, memory and energy.

        For a preset, --set changes any key of its configuration (sampling.flow_steps=4), for a run only its sampling settings.
        Records of a run go to its records.jsonl, those of a preset to records.jsonl in the folder of runs.
        """
        from nvgbench.api.jobs import append, profiled_model
        from nvgbench.cli.progress import counting
        from nvgbench.config.load import parse_overrides
        from nvgbench.profiling.profile import ProfilePlan
        from nvgbench.results.store import encode_record

        plan = ProfilePlan(
            batch_sizes=_parse_batch_sizes(batch_sizes), repeats=repeats, warmup=warmup, energy_seconds=energy_seconds
        )
        import_first(targets, runs, weights, tokenizer)
        changed = parse_overrides(settings)
        models = [
            profiled_model(
                target, set=changed, classes=classes, seed=seed, device=device, runs=runs, weights=weights_kind, step=step
            )
            for target in targets
        ]
        for model in models:
            with counting(f"profiling {model.name}", "steps") as progress:
                record = model.measure(plan, progress)
            append(record, model.records)
            if as_json:
                typer.echo(encode_record(record))
            else:
                _print(record)
                typer.echo(f"added to {model.records}")


def _parse_batch_sizes(text: str) -> tuple[int, ...]:
    from nvgbench.errors import InputError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--batch-sizes {text!r} is not a comma-separated list of numbers, e.g. 1,8,64") from None


def _print(record: RunRecord) -> None:
    from rich.console import Console
    from rich.table import Table

    from nvgbench.reporting.quantities import count, measurement_text, range_text

    table = Table("quantity", "batch", "median", "range", box=None, title=record.subject, title_justify="left")
    for row in record.tables["parameters"]:
        table.add_row(f"parameters, {row['part']}", "", count(row["count"]), "")
    for measurement in record.measurements:
        batch = str(measurement.conditions.get("batch_size", ""))
        table.add_row(measurement.name.replace("_", " "), batch, measurement_text(measurement), range_text(measurement))
    Console().print(table)
