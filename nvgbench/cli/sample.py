"""``nvgbench sample``: images from a trained run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nvgbench.cli.options import DEFAULT_RUNS, Compile, Device, Overrides, RunsRoot, Step, WeightsKind, compile_setting
from nvgbench.cli.published import PublishedTokenizer, Weights, import_first
from nvgbench.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command()
    def sample(
        run: Annotated[str, typer.Argument(help="A run folder, or its name under --runs.")],
        n: Annotated[int, typer.Option("-n", "--number", help="Number of images.")] = 64,
        out: Annotated[Path | None, typer.Option(help="x.npz (arr_0: uint8 NHWC, arr_1: labels) or a folder for PNGs.")] = None,
        grid: Annotated[Path | None, typer.Option(help="Write a picture of the first images, one column per class.")] = None,
        trace: Annotated[Path | None, typer.Option(help="Write a picture of the stages of the first images.")] = None,
        classes: Annotated[str | None, typer.Option(help="Names, numbers or none, comma-separated; by default all.")] = None,
        seed: Annotated[int, typer.Option(help="Seed of the job; each image has its own, made from this and its number.")] = 0,
        batch_size: Annotated[int, typer.Option(min=1)] = 64,
        weights: Weights = None,
        tokenizer: PublishedTokenizer = None,
        step: Step = None,
        weights_kind: WeightsKind = "averaged",
        settings: Overrides = [],  # noqa: B006 - read by typer, never modified
        compile: Compile = None,
        structure_image: Annotated[Path | None, typer.Option(help="NVG: take the structure of this image.")] = None,
        structure_mask: Annotated[Path | None, typer.Option(help="NVG: take the structure from this mask.")] = None,
        structure_sample: Annotated[int | None, typer.Option(help="NVG: take the structure of this image of the job.")] = None,
        structure_stage: Annotated[int | None, typer.Option(help="NVG: last given stage; later ones are generated.")] = None,
        device: Device = "auto",
        runs: RunsRoot = DEFAULT_RUNS,
    ) -> None:
        """Draw samples; after an interruption the same command resumes. Under torchrun, on several devices."""
        from nvgbench.cli.progress import of_first, tell_compilation
        from nvgbench.device import resolve_device
        from nvgbench.registry import get_family
        from nvgbench.results.weights import unfinished
        from nvgbench.runs.find import find_run
        from nvgbench.sampling import export
        from nvgbench.sampling.classes import class_name, select_classes
        from nvgbench.sampling.job import image_seed, sample_job
        from nvgbench.training.distributed import join_processes

        if structure_sample is not None and not 0 <= structure_sample < 2**32:
            raise InputError(f"--structure-sample {structure_sample} is not the number of an image of the job; use 0 or more")
        guided = any(source is not None for source in (structure_image, structure_mask, structure_sample))
        if structure_stage is not None and not guided:
            raise InputError(
                f"--structure-stage {structure_stage} needs --structure-image, --structure-mask or --structure-sample"
            )
        if out is not None:
            export.check_place(out)
        with join_processes(resolve_device(device)) as (processes, place):
            if processes.is_first:
                import_first([run], runs, weights, tokenizer)
            processes.barrier()
            folder = find_run(run, runs)
            generator = folder.load_generator(place, weights=weights_kind, step=step)
            names = folder.dataset.classes
            unconditional = get_family(folder.config.family).unconditional
            chosen = select_classes(None if classes is None else classes.split(","), names, unconditional=unconditional)
            options = export.parse_settings([*settings, *compile_setting(compile, "sampling")])
            if guided:
                from nvgbench.nvg.structure_control import with_structure

                number = structure_sample
                drawn = None if number is None else (chosen[number % len(chosen)], image_seed(seed, number))
                generator = with_structure(
                    generator, image=structure_image, mask=structure_mask, sample=drawn, stage=structure_stage
                )
            share = processes.share()
            if share.is_first and (early := unfinished(generator.spec.provenance)):
                typer.echo(f"warning: {folder.name} is {early}", err=True)
            with of_first(share)(f"sampling {generator.spec.name}") as progress:
                made = sample_job(
                    generator, n, folder.path / "samples", batch_size=batch_size, seed=seed, settings=options, classes=chosen,
                    progress=progress, share=share,
                )  # fmt: skip
            if not share.is_first:
                return
            tell_compilation()
            if classes is not None:
                typer.echo(f"classes: {', '.join(f'{label} ({class_name(label, names)})' for label in chosen)}")
            typer.echo(f"samples: {export.place(made, out) if out else made}")
            if grid:
                typer.echo(f"grid: {export.write_grid(made, grid, len(chosen) if names else 8)}")
            if trace:
                typer.echo(f"trace: {export.write_trace(generator, trace, chosen, seed, options)}")
