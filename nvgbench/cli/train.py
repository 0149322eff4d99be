"""``nvgbench train``: train a preset, or estimate the cost of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nvgbench.cli.cluster import Executor, JobSettings, submit
from nvgbench.cli.options import DEFAULT_RUNS, Compile, Device, Overrides, RunsRoot, compile_setting
from nvgbench.errors import InputError

if TYPE_CHECKING:
    from nvgbench.config.schema import RunConfig


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def train(
        context: typer.Context,
        preset: Annotated[str, typer.Argument(help="A name from 'nvgbench presets'.")],
        data: Annotated[str | None, typer.Option(help="Use another data source, e.g. cifar10 or imagefolder:PATH.")] = None,
        settings: Overrides = [],  # noqa: B006 - typer only reads the default
        compile: Compile = None,
        name: Annotated[str | None, typer.Option(help="Name of the run; by default that of the preset.")] = None,
        runs: RunsRoot = DEFAULT_RUNS,
        device: Device = "auto",
        tokenizer: Annotated[
            str | None,
            typer.Option(
                metavar="RUN|PATH|NAME",
                help="Use the tokenizer of this run or published file (ae.ckpt …), or a trained one that comes with nvgbench "
                "(nvg-tiny-tokenizer …).",
            ),
        ] = None,
        init: Annotated[
            str | None,
            typer.Option(
                metavar="RUN|PATH|NAME", help="Fine-tune: start from the weights of this run or published file (d16.ckpt …)."
            ),
        ] = None,
        teacher: Annotated[
            str | None,
            typer.Option(
                metavar="RUN",
                help="Learn from this run: keep its tokenizer and content generator, fit the structure generator to its flow.",
            ),
        ] = None,
        phase: Annotated[Literal["tokenizer", "generator", "all"], typer.Option(help="What to train.")] = "all",
        seeds: Annotated[str | None, typer.Option(help="One training per seed: 0,1,2 or 0..4, named NAME-seedN.")] = None,
        continue_with: Annotated[
            list[str],
            typer.Option(
                metavar="KEY=VALUE",
                help="Change a setting of a run from its last checkpoint on, e.g. train.generator.steps=600. Repeatable.",
            ),
        ] = [],  # noqa: B006 - typer only reads the default
        rewind: Annotated[
            int | None,
            typer.Option(metavar="STEP", min=0, help="First return to the newest checkpoint at or before this step."),
        ] = None,
        accept_data: Annotated[
            bool, typer.Option("--accept-data", help="Resume although images were repaired, removed or replaced.")
        ] = False,
        find_batch: Annotated[
            bool, typer.Option("--find-batch", help="Only find the largest micro-batch that fits into the GPU's memory.")
        ] = False,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate the cost; needs no data.")] = False,
        executor: Executor = None,
        job: JobSettings = [],  # noqa: B006 - typer only reads the default
    ) -> None:
        """Train a preset; after an interruption, the same command resumes. With torchrun or --executor, on several devices.

        Settings that do not determine the weights (log and checkpoint intervals, workers, the place of the data) may change
        whenever a run resumes; others by --continue-with.
        """
        from nvgbench.config.load import parse_overrides

        run_name = name or preset
        asked = parse_overrides([*settings, *compile_setting(compile, "train")])
        jobs = _planned(run_name, preset, asked, data, parse_seeds(seeds), distilled=teacher is not None)
        if dry_run:
            _estimate(jobs, device)
            return
        if find_batch:
            _find_batch(jobs[0][1], device)
            return
        if executor is not None:
            submit(context.obj, executor, job, runs)
            return
        options: dict[str, Any] = {
            "phases": ("tokenizer", "generator") if phase == "all" else (phase,),
            "group": Path(run_name).name if seeds else "",
            "continue_with": parse_overrides(continue_with),
            "rewind": rewind,
            "accept_data": accept_data,
        }
        _train_all(jobs, runs, device, tokenizer, init, teacher, options)


def _planned(
    run_name: str, preset: str, asked: Mapping[str, Any], data: str | None, seeds: Sequence[int], *, distilled: bool
) -> list[tuple[str, RunConfig]]:
    """Name and configuration of every training."""
    from nvgbench.config.load import load_preset
    from nvgbench.registry import get_family

    if ".." in Path(run_name).parts:
        raise InputError(f"--name {run_name!r} leads out of the runs folder; use a plain name, and --runs for the folder")
    if distilled:
        asked = {**get_family(load_preset(preset).family).teacher_settings, **asked}
    if not seeds:
        return [(run_name, load_preset(preset, asked, data))]
    return [(f"{run_name}-seed{seed}", load_preset(preset, {**asked, "train.seed": seed}, data)) for seed in seeds]


def _estimate(jobs: Sequence[tuple[str, RunConfig]], device: str) -> None:
    from nvgbench.device import resolve_device
    from nvgbench.training.dry_run import describe, estimate

    typer.echo(describe(estimate(jobs[0][1], resolve_device(device))))
    if len(jobs) > 1:
        typer.echo(f"{len(jobs)} seeds: {len(jobs)} times this cost")


def _find_batch(config: RunConfig, device: str) -> None:
    from nvgbench.device import resolve_device
    from nvgbench.training.trial import largest_micro_batch

    found = largest_micro_batch(config, resolve_device(device), lambda text: typer.echo(text, err=True))
    typer.echo(f"--set train.generator.micro_batch_size={found}")


def _train_all(
    jobs: Sequence[tuple[str, RunConfig]],
    runs: Path,
    device: str,
    tokenizer: str | None,
    init: str | None,
    teacher: str | None,
    options: dict[str, Any],
) -> None:
    from nvgbench.cli.training_progress import training_progress
    from nvgbench.device import resolve_device
    from nvgbench.training.interrupt import Interrupted
    from nvgbench.training.run import train_run
    from nvgbench.weights.source import source_run

    target = resolve_device(device)
    for name, config in jobs:
        folder = runs / name
        with (
            source_run(tokenizer, runs, config) as coder,
            source_run(init, runs, config, tokenizer=tokenizer) as start,
            source_run(teacher, runs, config) as known,
            training_progress(name) as progress,
        ):
            try:
                train_run(
                    config, folder,
                    device=target, progress=progress, tokenizer=coder, init=start, teacher=known, **options,
                )  # fmt: skip
            except Interrupted:
                progress({"message": "interrupted; run the same command to resume"})
                raise typer.Exit(130) from None
            progress({"message": f"finished: {folder}"})


def parse_seeds(text: str | None, option: str = "--seeds") -> list[int]:
    """Seeds from ``0,1,2``, ``0..4`` (inclusive) or a mixture; empty for None.

    Raises:
        InputError: anything else, or a repeated seed.
    """
    if text is None:
        return []
    seeds: list[int] = []
    try:
        for part in text.split(","):
            first, dots, last = part.partition("..")
            seeds += range(int(first), int(last) + 1) if dots else [int(first)]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError(f"{option} {text!r} is not a list of different seeds such as 0,1,2 or 0..4")
    return seeds
