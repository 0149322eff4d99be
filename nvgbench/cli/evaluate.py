"""``nvgbench eval``: scores of runs, of files of samples and of anchors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nvgbench.cli.cluster import Executor, JobSettings, submit
from nvgbench.cli.options import DEFAULT_RUNS, Compile, Device, Overrides, RunsRoot, Step, WeightsKind, compile_setting
from nvgbench.cli.published import PublishedTokenizer, Weights, import_first
from nvgbench.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from nvgbench.evaluation.evaluate import Evaluator
    from nvgbench.results.schema import RunRecord
    from nvgbench.runs.folder import RunFolder


Extractor = Annotated[
    str | None,
    typer.Option(
        help="inception (the papers' FID, IS …), classifier (trained here, no download), efficientnet-lite0, dinov2, clip, an "
        "installed extractor, or MODULE:CALLABLE."
    ),
]
Extractors = Annotated[
    str | None,
    typer.Option(help="A set instead: offline, fdr6, or names separated by commas. Reads the images once and adds FDr."),
]
Real = Annotated[
    str | None, typer.Option(help="Real images for FDr, .npz or folder; training images of the data source by default.")
]
Reference = Annotated[str | None, typer.Option(help="Data source, .npz or folder; by default the run's held-out images.")]
Protocol = Annotated[
    str, typer.Option(help="Evaluation protocol: nvgbench, adm, torch-fidelity, clean-fid, clean-fid:legacy_pytorch …")
]
Metrics = Annotated[str | None, typer.Option(help="Only these, e.g. FID,IS: others, reconstructions too, are not computed.")]
SamplingSeeds = Annotated[
    str | None, typer.Option(help="Score each run with several seeds (0,1,2 or 0..4), then their mean with its interval.")
]
FidInfinity = Annotated[
    bool,
    typer.Option("--fid-infinity", help="Also FID∞ for more than 512 features (takes minutes; always computed for fewer)."),
]

Anchors = Annotated[
    bool,
    typer.Option(
        "--anchors",
        help="Also score real images, class means and untrained models; without RUN or --all, nothing else.",
    ),
]
NearestTraining = Annotated[
    bool, typer.Option("--nearest-training", help="Also the distance of each sample to its nearest training image.")
]
Force = Annotated[bool, typer.Option("--force", help="Score although images or classes are not the run's own, and record it.")]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command("eval")
    def evaluate(
        context: typer.Context,
        names: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Run folders, or names in --runs.")] = None,
        all_runs: Annotated[bool, typer.Option("--all", help="Every run that has a trained generator.")] = False,
        samples: Annotated[Path | None, typer.Option(help="Score this .npz or folder of images instead of a run.")] = None,
        name: Annotated[str | None, typer.Option(help="Name of --samples in tables; the file's name by default.")] = None,
        reference: Reference = None,
        extractor: Extractor = None,
        extractors: Extractors = None,
        real: Real = None,
        protocol: Protocol = "nvgbench",
        inception_weights: Annotated[Path | None, typer.Option(help="Inception weights; implies inception.")] = None,
        extractor_weights: Annotated[Path | None, typer.Option(help="File or folder with the extractor's weights.")] = None,
        metrics: Metrics = None,
        key: Annotated[str | None, typer.Option(help="Name of the images in the .npz of --samples, if not arr_0.")] = None,
        resize: Annotated[int | None, typer.Option(min=1, help="Bring all files to this side, pixels (bicubic).")] = None,
        crop: Annotated[str | None, typer.Option(help="center: crop all files to their centre square.")] = None,
        n: Annotated[int, typer.Option("-n", "--number", help="Number of samples per run.")] = 2000,
        seed: Annotated[int, typer.Option(min=0, help="Seed of the samples and of all random draws in the scores.")] = 0,
        sampling_seeds: SamplingSeeds = None,
        fid_infinity: FidInfinity = False,
        weights: Weights = None,
        tokenizer: PublishedTokenizer = None,
        step: Step = None,
        weights_kind: WeightsKind = "averaged",
        data: Annotated[
            str | None,
            typer.Option(help="Where a run's own data are now, if moved; with --weights, the data source (default imagenet)."),
        ] = None,
        settings: Overrides = [],  # noqa: B006 - typer reads the default, nobody changes it
        compile: Compile = None,
        anchors: Anchors = False,
        per_class: Annotated[bool, typer.Option("--per-class", help="Also the Fréchet distance of every class.")] = False,
        nearest_training: NearestTraining = False,
        keep_samples: Annotated[bool, typer.Option(help="Keep the samples on disk after scoring.")] = True,
        force: Force = False,
        batch_size: Annotated[int, typer.Option(min=1)] = 64,
        kid_subsets: Annotated[int, typer.Option(min=1, help="Number of subsets of KID.")] = 100,
        kid_subset_size: Annotated[int, typer.Option(min=2, help="Images per subset of KID.")] = 1000,
        is_splits: Annotated[int, typer.Option(min=1, help="Splits of the Inception Score.")] = 10,
        device: Device = "auto",
        runs: RunsRoot = DEFAULT_RUNS,
        executor: Executor = None,
        job: JobSettings = [],  # noqa: B006 - typer only reads the default
    ) -> None:
        """Score samples and reconstructions. If interrupted, the same command resumes. torchrun spreads it over devices."""
        _check_choice(names or [], all_runs, samples, name, anchors)
        _check_data(data, samples)
        _check_extractors(extractor, extractors)
        if executor is not None:
            submit(context.obj, executor, job, runs)
            return
        from nvgbench.cli.progress import of_first, tell_compilation
        from nvgbench.config.load import override_dataclass, to_dict
        from nvgbench.device import resolve_device, resolved_settings
        from nvgbench.evaluation.evaluate import Evaluator
        from nvgbench.evaluation.options import EvaluationOptions
        from nvgbench.sampling.export import parse_settings
        from nvgbench.training.distributed import join_processes

        options = EvaluationOptions(
            n=n, seed=seed, batch_size=batch_size, protocol=protocol,
            extractor=extractor or ("inception" if inception_weights or protocol != "nvgbench" else "classifier"),
            extractors=extractors, real=real,
            extractor_weights=_weights(extractor, extractor_weights, inception_weights),
            settings=parse_settings([*settings, *compile_setting(compile, "sampling")]), reference=reference,
            per_class=per_class, nearest_training=nearest_training,
            metrics=None if metrics is None else tuple(name.strip() for name in metrics.split(",")),
            weights=weights_kind, step=step,
            key=key, resize=resize, crop=crop, kid_subsets=kid_subsets, kid_subset_size=kid_subset_size, is_splits=is_splits,
            keep_samples=keep_samples, force=force, fid_infinity=fid_infinity, data=data if weights is None else None,
        )  # fmt: skip
        seeds = _sampling_seeds(sampling_seeds, samples)
        with join_processes(resolve_device(device)) as (processes, place):
            if processes.is_first:
                import_first(names or [], runs, weights, tokenizer, data)
            processes.barrier()
            chosen = _choose(names or [], all_runs, runs)
            for run in chosen:  # before the classifier is trained
                resolved_settings(to_dict(override_dataclass(run.config.sampling, options.settings, "sampling")), place)
            share = processes.share()
            evaluator = Evaluator(runs, options, place, of_first(share), share, _warn)
            for record in _records(evaluator, chosen, samples, name, seeds, runs if anchors else None):
                _show(record)
            if share.is_first:
                tell_compilation()


def _records(
    evaluator: Evaluator,
    runs: list[RunFolder],
    samples: Path | None,
    name: str | None,
    seeds: list[int],
    anchors_below: Path | None,
) -> Iterator[RunRecord]:
    if samples is not None:
        yield from evaluator.records_of_files(samples, name)
    for run in runs:
        yield from evaluator.records_over_seeds(run, seeds) if seeds else evaluator.records_of(run)
    if anchors_below is not None:
        anchored = _anchored(runs, samples, anchors_below)
        yield from evaluator.anchors({(run.config.data.source, run.config.name): run.config for run in anchored}.values())


def _check_choice(names: list[str], all_runs: bool, samples: Path | None, name: str | None, anchors: bool) -> None:
    given = sum([bool(names), all_runs, samples is not None])
    if given > 1 or (given == 0 and not anchors):
        raise InputError("give exactly one of RUN…, --all, and --samples with --reference; or --anchors alone")
    if name is not None and samples is None:
        raise InputError("--name goes with --samples; a run is named after its folder")


def _check_data(data: str | None, samples: Path | None) -> None:
    if data is not None and samples is not None:
        raise InputError(f"--data {data} is the place of a run's own data; --samples are compared with --reference")


def _check_extractors(extractor: str | None, extractors: str | None) -> None:
    if extractor is not None and extractors is not None:
        raise InputError(f"--extractor {extractor} and --extractors {extractors}: leave one of them out")


def _weights(extractor: str | None, weights: Path | None, inception_weights: Path | None) -> Path | None:
    if inception_weights is None:
        return weights
    if weights is not None or extractor not in (None, "inception"):
        other = "--extractor-weights" if weights is not None else f"--extractor {extractor}"
        raise InputError(f"--inception-weights goes with --extractor inception, got {other}; leave one of them out")
    return inception_weights


def _sampling_seeds(text: str | None, samples: Path | None) -> list[int]:
    from nvgbench.cli.train import parse_seeds

    seeds = parse_seeds(text, "--sampling-seeds")
    if seeds and samples is not None:
        raise InputError("--sampling-seeds goes with runs; the images of --samples are already drawn")
    if len(seeds) == 1 or any(seed < 0 for seed in seeds):
        raise InputError(f"--sampling-seeds {text!r}: expected at least two seeds from 0 on, such as 0..4")
    return seeds


def _choose(names: list[str], all_runs: bool, root: Path) -> list[RunFolder]:
    from nvgbench.runs.find import find_run

    if not all_runs:
        return [find_run(name, root) for name in names]
    found = _known(root)
    ready = [run for run in found if run.state("generator") is not None]
    for run in found:
        if run not in ready:
            typer.echo(f"skipped {run.path}: no trained generator yet", err=True)
    if not ready:
        raise InputError(f"no run with a trained generator in {root}; 'nvgbench train PRESET' trains one")
    return ready


def _anchored(chosen: list[RunFolder], samples: Path | None, root: Path) -> list[RunFolder]:
    """The runs whose anchors are scored: those that are scored themselves; if nothing is, all, trained or not."""
    if chosen or samples is not None:
        return chosen
    found = _known(root)
    if not found:
        raise InputError(f"no run in {root}; 'nvgbench train PRESET' starts one")
    return found


def _known(root: Path) -> list[RunFolder]:
    from nvgbench.runs.find import find_runs

    return find_runs(root) if root.is_dir() else []


def _warn(line: str) -> None:
    typer.echo(line, err=True)


def _show(record: RunRecord) -> None:
    """The scores as a table."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from nvgbench.results.missing import missing_scores
    from nvgbench.results.weights import unfinished

    about = ", ".join(filter(None, (record.family, unfinished(record.provenance.get("model")))))
    table = Table(title=escape(f"{record.subject} ({about})"), title_justify="left")
    table.add_column("score", no_wrap=True)
    for column in ("value", "95 % interval", "n"):
        table.add_column(column, justify="right")
    table.add_column("better")
    for metric in record.metrics:
        value = "not available" if metric.value is None else f"{metric.value:.4g} {metric.unit}".strip()
        interval = f"{metric.interval.low:.4g} to {metric.interval.high:.4g}" if metric.interval else ""
        better = {True: "higher", False: "lower", None: ""}[metric.higher_is_better]
        count = str(metric.n) if metric.n_reference is None else f"{metric.n} / {metric.n_reference}"
        table.add_row(escape(metric.name), value, interval, count, better)
    console = Console()
    console.print(table)
    for note in sorted({metric.note for metric in record.metrics if metric.note}):
        console.print(f"note: {note}", markup=False)
    reasons: dict[str, list[str]] = {}
    for name, reason in missing_scores(record).items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        console.print(f"note: no {', '.join(names)}: {reason}", markup=False)
    for title, rows in record.tables.items():
        _show_rows(console, title, rows)


def _show_rows(console: Console, title: str, rows: list[dict[str, Any]]) -> None:
    """A table of the record, one line per row."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(*map(escape, rows[0] if rows else ()), title=escape(title), title_justify="left")
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else escape(str(value)) for value in row.values()))
    console.print(table)
