"""``nvgbench profile``: time, memory and energy of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from nvgbench.cli.options import DEFAULT_RUNS, Compile, Device, Overrides, RunsRoot, Step, WeightsKind, compile_setting
from nvgbench.cli.published import PublishedTokenizer, Weights, import_first

if TYPE_CHECKING:
    from rich.console import Console

    from nvgbench.reporting.published import Published
    from nvgbench.results.schema import RunRecord


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def profile(
        targets: Annotated[
            list[str] | None, typer.Argument(help="Presets (with random weights) or runs, imported ones included.")
        ] = None,
        paper: Annotated[
            bool,
            typer.Option(
                "--paper", help="The NVG paper's Table 4, or its rows for the given presets, beside published figures."
            ),
        ] = False,
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
        compile: Compile = None,
        device: Device = "auto",
        runs: RunsRoot = DEFAULT_RUNS,
        as_json: Annotated[bool, typer.Option("--json", help="Print the records instead of tables.")] = False,
    ) -> None:
        """Measure parameters, FLOPs, latency, throughput, memory and energy.

        --paper chooses the batch sizes itself: 1, and the largest that pays.

        For a preset, --set changes any key of its configuration (sampling.flow_steps=4), for a run only its sampling settings.
        Records of a run go to its records.jsonl, those of a preset to records.jsonl in the folder of runs.
        """
        from nvgbench.api.jobs import append, profiled_model
        from nvgbench.api.paper import paper_models
        from nvgbench.cli.progress import counting
        from nvgbench.config.load import parse_overrides
        from nvgbench.errors import InputError
        from nvgbench.profiling.profile import ProfilePlan
        from nvgbench.results.store import encode_record

        plan = ProfilePlan(
            batch_sizes=_parse_batch_sizes(batch_sizes), repeats=repeats, warmup=warmup, energy_seconds=energy_seconds
        )
        targets, changed = targets or [], parse_overrides([*settings, *compile_setting(compile, "sampling")])
        if not targets and not paper:
            raise InputError("nothing to profile; name presets or runs, or give --paper")
        chosen: dict[str, Any] = {"set": changed, "classes": classes, "seed": seed, "device": device, "runs": runs}
        if paper:
            models = paper_models(targets, **chosen)
        else:
            import_first(targets, runs, weights, tokenizer)
            models = [profiled_model(target, **chosen, weights=weights_kind, step=step) for target in targets]
        records = []
        for model in models:
            with counting(f"profiling {model.name}", "steps") as progress:
                record = model.measure(plan, progress)
            append(record, model.records)
            records.append(record)
            if as_json:
                typer.echo(encode_record(record))
            else:
                _print(record)
                typer.echo(f"added to {model.records}")
        if paper and not as_json:
            _print_paper(records)


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
    console = Console()
    console.print(table)
    _print_details(record, console)


def _print_details(record: RunRecord, console: Console) -> None:
    """Kinds of calls, parts of a call, ceilings."""
    from rich.table import Table

    from nvgbench.reporting.quantities import quantity

    calls = Table("call", "how", "batch", "median", "images/s", "MFU", "bandwidth", "first call", box=None)
    for row in record.tables.get("calls", ()):
        shares = [f"{row[key]:.1%}" if key in row else "" for key in ("mfu", "bandwidth_share")]
        first = quantity(row["first_call_s"], "s") if "first_call_s" in row else ""
        first += f" ({quantity(row['compile_s'], 's')} compiling)" if "compile_s" in row else ""
        rate = f"{row['images_per_s']:.4g}"
        calls.add_row(row["call"], row["how"], str(row["batch_size"]), quantity(row["median_s"], "s"), rate, *shares, first)
    parts = Table("part", "batch", "eager call", "share", box=None)
    for row in record.tables.get("parts", ()):
        parts.add_row(row["part"], str(row["batch_size"]), quantity(row["seconds"], "s"), f"{row['share']:.1%}")
    ceilings = Table("ceiling", "rate", box=None)
    for row in record.tables.get("ceilings", ()):
        ceilings.add_row(row["ceiling"], quantity(row["rate"], row["unit"]))
    for table in (calls, parts, ceilings):
        if table.row_count:
            console.print(table)


def _print_paper(records: list[RunRecord]) -> None:
    """Table 4: measured here, and published."""
    from rich.console import Console
    from rich.table import Table

    from nvgbench.api.paper import paper_rows, published_only
    from nvgbench.reporting.quantities import count, quantity

    def published_text(row: Published) -> tuple[str, str]:
        return f"{float(row.time_s):.3f} s", f"{row.memory_mib} MiB"

    def text(value: float | None, unit: str) -> str:
        return "" if value is None else quantity(value, unit)

    table = Table(
        "model", "parameters", "image", "tokens", "memory", "paper", "its memory", "batch", "images/s", "MFU", box=None
    )
    for row in paper_rows(records):
        theirs = ("", "") if row.published is None else published_text(row.published)
        rate = "" if row.images_per_s is None else f"{row.images_per_s:.4g}"
        mfu = "" if row.mfu is None else f"{row.mfu:.1%}"
        ours = count(row.parameters), text(row.image_s, "s"), text(row.tokens_s, "s"), text(row.memory, "B")
        table.add_row(row.name, *ours, *theirs, str(row.batch), rate, mfu)
    for published in published_only(records):
        table.add_row(published.model, published.params, "", "", "", *published_text(published), "", "", "")
    Console().print(table)
