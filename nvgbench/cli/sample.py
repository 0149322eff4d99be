"""``nvgbench sample``: images from a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nvgbench.cli.options import DEFAULT_RUNS, Device, Overrides, RunsRoot


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def sample(
        run: Annotated[str, typer.Argument(help="A run folder, or its name under --runs.")],
        n: Annotated[int, typer.Option("-n", "--number", help="How many images.")] = 64,
        out: Annotated[Path | None, typer.Option(help="x.npz (arr_0: uint8 NHWC, arr_1: labels) or a folder for PNGs.")] = None,
        grid: Annotated[Path | None, typer.Option(help="Write a picture of the first images, class by class.")] = None,
        trace: Annotated[Path | None, typer.Option(help="Write a picture of the stages of the first images.")] = None,
        classes: Annotated[str | None, typer.Option(help="Comma-separated class numbers; all in turn if not given.")] = None,
        seed: Annotated[int, typer.Option(help="Seed of the job; every image has its own, made of this and its number.")] = 0,
        batch_size: Annotated[int, typer.Option(min=1)] = 64,
        settings: Overrides = [],  # noqa: B006 - typer reads the default, nobody changes it
        device: Device = "auto",
        runs: RunsRoot = DEFAULT_RUNS,
    ) -> None:
        """Draw samples; interrupted, the same command goes on where it stopped."""
        from nvgbench.cli.progress import counting
        from nvgbench.device import resolve_device
        from nvgbench.runs import find_run
        from nvgbench.sampling import export
        from nvgbench.sampling.job import check_classes, sample_job

        folder = find_run(run, runs)
        generator = folder.load_generator(resolve_device(device))
        chosen = check_classes(export.parse_classes(classes), generator.spec)
        options = export.parse_settings(settings)
        with counting(f"sampling {generator.spec.name}") as progress:
            made = sample_job(
                generator, n, folder.path / "samples", batch_size=batch_size, seed=seed, settings=options, classes=chosen,
                progress=progress,
            )  # fmt: skip
        typer.echo(f"samples: {export.place(made, out) if out else made}")
        if grid:
            typer.echo(f"grid: {export.write_grid(made, grid, len(chosen))}")
        if trace:
            typer.echo(f"trace: {export.write_trace(generator, trace, chosen, seed, options)}")
