"""``nvgbench ablate``: studies that change one thing and measure the effect."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from nvgbench.cli.cluster import Executor, JobSettings, submit
from nvgbench.cli.options import DEFAULT_RUNS, Device, Overrides, RunsRoot
from nvgbench.errors import InputError

if TYPE_CHECKING:
    from nvgbench.ablations.runner import StudyPlan
    from nvgbench.runs.folder import RunFolder


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``, with a command per study; the studies themselves are imported when they run."""
    from nvgbench.ablations.registry import STUDIES

    group = typer.Typer(no_args_is_help=True, help="Studies: change one thing, measure the effect.")
    group.command("list")(_list)
    for name in STUDIES.names():
        group.command(name, help=f"Run the study {name}; 'nvgbench ablate list' shows its question and design.")(_command(name))
    app.add_typer(group, name="ablate")


def _list() -> None:
    """List the studies: question, what varies, what is reported."""
    from nvgbench.ablations.registry import STUDIES, get_study

    for name in STUDIES.names():
        study = get_study(name)
        typer.echo(f"{name}: {study.question}")
        for title, entries in (("varies", study.varies), ("reports", study.reports)):
            typer.echo(f"  {title}")
            for entry, text in entries.items():
                typer.echo(f"    {entry}: {text}")


def _command(study: str) -> Callable[..., None]:
    def run(
        context: typer.Context,
        runs: Annotated[
            list[str] | None, typer.Argument(metavar="[RUN]...", help="Runs to probe, for studies that train none.")
        ] = None,
        budget: Annotated[
            Literal["quick", "standard", "paper"], typer.Option(help="Seeds, images, training length.")
        ] = "standard",
        preset: Annotated[str | None, typer.Option(help="Preset of the trainings; the study's own by default.")] = None,
        variant: Annotated[list[str] | None, typer.Option(help="Only this variant and its baseline. Repeatable.")] = None,
        seeds: Annotated[str | None, typer.Option(help="Training seeds: 0,1,2 or 0..4; by default as the budget says.")] = None,
        settings: Overrides = [],  # noqa: B006 - typer only reads the default
        images: Annotated[int | None, typer.Option("--images", "-n", min=2, help="Number of held-out images.")] = None,
        samples: Annotated[int | None, typer.Option(min=2, help="Number of generated images per training.")] = None,
        retrain: Annotated[
            int, typer.Option(min=0, help="First train this many more tokenizers like the first run's, with other seeds.")
        ] = 0,
        data: Annotated[
            list[str] | None,
            typer.Option(help="Data source; the run's or the preset's own by default. Repeatable for the study transfer."),
        ] = None,
        extractor: Annotated[str, typer.Option(help="Feature extractor of the scores.")] = "classifier",
        seed: Annotated[int, typer.Option(help="Seed of noise, random splits and samples.")] = 0,
        jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Processes that train and measure at once.")] = 1,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be trained, and its cost.")] = False,
        out: Annotated[Path | None, typer.Option(help="Records file or folder; the folder of runs by default.")] = None,
        root: RunsRoot = DEFAULT_RUNS,
        device: Device = "auto",
        executor: Executor = None,
        job: JobSettings = [],  # noqa: B006 - typer only reads the default
    ) -> None:
        from nvgbench.ablations.runner import StudyRequest, plan_study
        from nvgbench.cli.progress import counting
        from nvgbench.cli.train import parse_seeds
        from nvgbench.config.load import parse_overrides
        from nvgbench.device import resolve_device
        from nvgbench.runs.find import find_run

        submitted = executor is not None and not dry_run
        # A job's device is not that of the machine which submits it, where bad input is refused nevertheless.
        place, sources = resolve_device("cpu" if submitted else device), data or []
        targets = [find_run(run, root) for run in runs or []]
        if retrain and not targets:
            raise InputError(f"--retrain {retrain} needs a run whose tokenizer is trained again with other seeds")
        if retrain and not (dry_run or submitted):
            targets += _retrain(targets[0], retrain, root, place)
        request = StudyRequest(
            study=study, root=root, device=place, targets=targets, budget=budget, preset=preset, variants=variant or (),
            seeds=parse_seeds(seeds) or None, settings=parse_overrides(settings), images=images, samples=samples, seed=seed,
            sources=sources, extractor=extractor, jobs=jobs,
        )  # fmt: skip
        plan = plan_study(request, counting)
        if not submitted:  # the job's machine may have what this one lacks
            for name, reason in plan.left_out.items():
                typer.echo(f"left out: {name}: {reason}", err=True)
        if dry_run:
            _show_plan(plan)
        elif executor is not None:
            submit(context.obj, executor, job, root, distributed=False)
        else:
            _execute(plan, root if out is None else out)

    return run


def _execute(plan: StudyPlan, out: Path) -> None:
    from nvgbench.ablations.runner import run_study
    from nvgbench.api.jobs import append
    from nvgbench.cli.studies import show_study
    from nvgbench.cli.training_progress import training_progress
    from nvgbench.training.interrupt import Interrupted

    try:
        record = run_study(plan, training_progress)
    except Interrupted:
        typer.echo("interrupted; run the same command to resume", err=True)
        raise typer.Exit(130) from None
    path = append(record, out)
    show_study(record)
    typer.echo(f"added to {path}")
    failed = [row for row in record.tables["runs"] if row["error"]]
    for row in failed:
        typer.echo(f"failed: {row['variant']}, seed {row['seed']}: {row['error']}", err=True)
    if failed:
        typer.echo("run the same command to try the failed runs again", err=True)
        raise typer.Exit(1)


def _show_plan(plan: StudyPlan) -> None:
    from rich.console import Console
    from rich.table import Table

    from nvgbench.training.dry_run import flops_text

    if not plan.jobs:
        typer.echo(f"{plan.study.name} trains nothing; it probes {', '.join(run.folder.name for run in plan.runs)}")
        return
    table = Table(title=f"{plan.study.name}: trainings of {plan.preset}", title_justify="left", box=None)
    for name in ("variant", "seed", "run", "state", "tokenizer"):
        table.add_column(name)
    for name in ("FLOPs", "time"):
        table.add_column(name, justify="right")
    costs = plan.costs()
    for job, cost in zip(plan.jobs, costs, strict=True):
        tokenizer = "shared" if cost.shares_tokenizer else "own"
        cells = (job.variant, str(job.seed), job.folder.name, job.state, tokenizer, flops_text(cost.flops), _time(cost.seconds))
        table.add_row(*cells)
    Console().print(table)
    total = [sum(value for one in costs if (value := getattr(one, name)) is not None) for name in ("flops", "seconds")]
    seconds = total[1] / min(plan.request.jobs, len(costs))
    typer.echo(f"in all {flops_text(total[0])} and roughly {_time(seconds)} of training, measurements not included")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _retrain(run: RunFolder, count: int, root: Path, device: Any) -> Sequence[RunFolder]:
    from nvgbench.ablations.subject import retrained_tokenizers
    from nvgbench.cli.training_progress import training_progress
    from nvgbench.training.interrupt import Interrupted

    try:
        return list(retrained_tokenizers(run, count, root=root, device=device, showing=training_progress))
    except Interrupted:
        typer.echo("interrupted; run the same command to resume", err=True)
        raise typer.Exit(130) from None
