"""``nvgbench profile``: what a model costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nvgbench.cli.options import DEFAULT_RUNS, Device, Overrides, RunsRoot
from nvgbench.cli.published import PublishedTokenizer, Weights, import_first

if TYPE_CHECKING:
    import torch

    from nvgbench.config.schema import RunConfig
    from nvgbench.interfaces import ImageGenerator
    from nvgbench.results.schema import RunRecord


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def profile(
        targets: Annotated[
            list[str], typer.Argument(help="Presets (profiled with random weights), or runs, also imported ones.")
        ],
        batch_sizes: Annotated[str, typer.Option(help="At 1 latency is measured, above throughput.")] = "1,8",
        repeats: Annotated[int, typer.Option(help="Timed calls at each batch size.")] = 10,
        warmup: Annotated[int, typer.Option(help="Calls before them that are not timed.")] = 2,
        energy_seconds: Annotated[float, typer.Option(help="Shortest window over which energy is read, seconds.")] = 3.0,
        classes: Annotated[
            int | None, typer.Option(min=1, help="Classes of a preset whose data are not at hand; known for named data sets.")
        ] = None,
        seed: Annotated[int, typer.Option(help="Seed of a preset's random weights.")] = 0,
        weights: Weights = None,
        tokenizer: PublishedTokenizer = None,
        settings: Overrides = [],  # noqa: B006 - typer reads the default, nobody changes it
        device: Device = "auto",
        runs: RunsRoot = DEFAULT_RUNS,
        as_json: Annotated[bool, typer.Option("--json", help="Print the records instead of tables.")] = False,
    ) -> None:
        """Measure parameters, FLOPs, latency, throughput, memory and energy.

        For a preset --set changes any key of its configuration (sampling.flow_steps=4), for a run only its sampling settings.
        What concerns a run is added to the run's records.jsonl, the rest to records.jsonl in the folder of runs.
        """
        from nvgbench.cli.progress import counting
        from nvgbench.device import resolve_device
        from nvgbench.profiling.profile import ProfilePlan
        from nvgbench.results.store import ResultStore, encode_record

        plan = ProfilePlan(
            batch_sizes=_parse_batch_sizes(batch_sizes), repeats=repeats, warmup=warmup, energy_seconds=energy_seconds
        )
        place = resolve_device(device)
        import_first(targets, runs, weights, tokenizer)
        loaded = [_load(target, runs, settings, place, classes, seed) for target in targets]
        for load in loaded:
            generator, config, options, store = load()
            with counting(f"profiling {generator.spec.name}", "steps") as progress:
                record = _profile(generator, config, options, plan, place, progress)
            ResultStore(store).append(record)
            if as_json:
                typer.echo(encode_record(record))
            else:
                _print(record)
                typer.echo(f"added to {store}")


Loaded = tuple["ImageGenerator", "RunConfig", dict[str, Any], Path]


def _load(
    target: str, runs: Path, overrides: list[str], device: torch.device, classes: int | None, seed: int
) -> Callable[[], Loaded]:
    """Check ``target`` now and return what builds its model, so that one misspelt name stops the command at its start."""
    from nvgbench.config.load import load_preset
    from nvgbench.errors import InputError, did_you_mean
    from nvgbench.registry import preset_files
    from nvgbench.runs.find import find_run, find_runs
    from nvgbench.runs.folder import CONFIG
    from nvgbench.runs.models import untrained_generator
    from nvgbench.sampling.export import parse_settings

    is_run = any((path / CONFIG).exists() for path in (runs / target, Path(target)))
    if target in preset_files() and not is_run:
        config = load_preset(target, overrides)
        number = classes if classes is not None else _known_classes(config)
        return lambda: (untrained_generator(config, number, seed, device), config, {}, runs / "records.jsonl")
    if not is_run:
        known = [*preset_files(), *(run.name for run in find_runs(runs))]
        raise InputError(
            f"{target!r} is neither a preset nor a run in {runs}{did_you_mean(target, known)}; 'nvgbench presets' lists presets"
        )
    run = find_run(target, runs)
    config = run.config
    return lambda: (run.load_generator(device), config, parse_settings(overrides), run.records_path)


def _known_classes(config: RunConfig) -> int:
    from nvgbench.data.catalog import SOURCES
    from nvgbench.errors import InputError

    source = SOURCES.get(config.data.source.partition(":")[0])
    number = "" if source is None else source.classes.replace(",", "")
    if not number.isdigit():
        raise InputError(f"how many classes {config.data.source!r} has is not known beforehand; say it with --classes N")
    return int(number)


def _parse_batch_sizes(text: str) -> tuple[int, ...]:
    from nvgbench.errors import InputError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--batch-sizes {text!r} is not a comma-separated list of numbers, e.g. 1,8,64") from None


def _profile(
    generator: ImageGenerator,
    config: RunConfig,
    options: dict[str, Any],
    plan: Any,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> RunRecord:
    """Measure, and hold the counted FLOPs beside the family's own formula."""
    import dataclasses

    from nvgbench.config.load import config_hash, override_dataclass, to_dict
    from nvgbench.device import describe_device
    from nvgbench.profiling.profile import profile_generator
    from nvgbench.registry import get_family
    from nvgbench.results.provenance import collect
    from nvgbench.results.schema import RunRecord
    from nvgbench.types import Measurement

    sampling = override_dataclass(config.sampling, options, "sampling")
    cost = get_family(config.family).cost(dataclasses.replace(config, sampling=sampling), generator.spec.num_classes)
    measurements = profile_generator(generator, dataclasses.replace(plan, settings=options), device, progress)
    by_part = {part: float(flops) for part, flops in cost["sampling_flops"].items()}
    analytic = Measurement(
        name="flops_analytic",
        unit="FLOP/image",
        samples=(sum(by_part.values()),),
        conditions={"parts": by_part, "batch_size": 1},
    )
    described = describe_device(device)
    return RunRecord(
        kind="profile",
        subject=generator.spec.name,
        family=generator.spec.family,
        preset=config.name,
        measurements=(*measurements, analytic),
        tables={"parameters": [{"part": part, "count": number} for part, number in generator.spec.parameters.items()]},
        provenance=collect(
            config_hash(config),
            gpu=described.get("gpu"),
            device=described,
            model=dict(generator.spec.provenance),
            settings=to_dict(sampling),
            image_size=generator.spec.image_size,
        ),
    )


def _print(record: RunRecord) -> None:
    from rich.console import Console
    from rich.table import Table

    from nvgbench.report.quantities import count, measurement_text, range_text

    table = Table("quantity", "batch", "median", "range", box=None, title=record.subject, title_justify="left")
    for row in record.tables["parameters"]:
        table.add_row(f"parameters, {row['part']}", "", count(row["count"]), "")
    for measurement in record.measurements:
        batch = str(measurement.conditions.get("batch_size", ""))
        table.add_row(measurement.name.replace("_", " "), batch, measurement_text(measurement), range_text(measurement))
    Console().print(table)
