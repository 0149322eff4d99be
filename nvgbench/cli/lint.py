"""``nvgbench lint``: problems of a set of samples that change its scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command("lint")
    def lint_samples(
        samples: Annotated[Path, typer.Argument(help="An .npz (arr_0: uint8 NHWC, arr_1: labels), folder or .zip of images.")],
        reference: Annotated[str | None, typer.Option(help="Compare with this: data source, .npz or folder.")] = None,
        key: Annotated[str | None, typer.Option(help="Name of the images in the .npz, if not arr_0.")] = None,
        resize: Annotated[int | None, typer.Option(min=1, help="Bring all files to this side, pixels (bicubic).")] = None,
        crop: Annotated[str | None, typer.Option(help="center: crop all files to their centre square.")] = None,
        features: Annotated[int, typer.Option(min=1, help="Number of features of the extractor; 2048 for Inception.")] = 2048,
        strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 if there is a warning.")] = False,
    ) -> None:
        """Check samples for what changes scores: order and balance of classes, number, range, rounding, JPEG, copies."""
        from nvgbench.cli.progress import counting
        from nvgbench.data.image_set import open_images
        from nvgbench.evaluation.lint.checks import check_classes_fit
        from nvgbench.evaluation.lint.inspection import inspect
        from nvgbench.evaluation.reference import match_labels, open_reference

        images = open_images(samples, key=key, resize=resize, crop=crop)
        target = None
        if reference is not None:
            target = open_reference(reference, images.image_size, resize=resize, crop=crop)
            images, target = match_labels(images, target)
            check_classes_fit(images, target.images)
        findings = inspect(images, target, dimension=features, report=counting)
        for finding in findings:
            typer.echo(finding)
        typer.echo(f"{images.name}: {images.count} images of {images.image_size} px, {len(findings)} warnings")
        if strict and findings:
            raise typer.Exit(1)
