"""``nvgbench stats``: mean and covariance of Inception features, as the field's evaluators store them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nvgbench.cli.options import DEFAULT_RUNS, Device, RunsRoot


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command("stats")
    def write_stats(
        samples: Annotated[Path, typer.Argument(help="An .npz (arr_0: uint8 NHWC), folder or .zip of images.")],
        out: Annotated[Path, typer.Option(help="The .npz to write: mu, sigma, n; with --protocol adm also mu_s, sigma_s.")],
        protocol: Annotated[
            str, typer.Option(help="Whose Inception preprocessing: nvgbench, adm, torch-fidelity, clean-fid …")
        ] = "nvgbench",
        inception_weights: Annotated[Path | None, typer.Option(help="Inception weights; the published ones if none.")] = None,
        key: Annotated[str | None, typer.Option(help="Name of the images in the .npz, if not arr_0.")] = None,
        resize: Annotated[int | None, typer.Option(min=1, help="Bring all files to this side, pixels (bicubic).")] = None,
        crop: Annotated[str | None, typer.Option(help="center: crop all files to their centre square.")] = None,
        batch_size: Annotated[int, typer.Option(min=1)] = 64,
        device: Device = "auto",
        runs: RunsRoot = DEFAULT_RUNS,
    ) -> None:
        """Write the statistics of a set of images, for use as --reference here and in other evaluators."""
        from nvgbench.cli.progress import counting
        from nvgbench.data.image_set import open_images
        from nvgbench.data.moments import check_name, write_statistics
        from nvgbench.device import resolve_device
        from nvgbench.evaluation.statistics import file_moments

        check_name(out)
        place = resolve_device(device)
        images = open_images(samples, key=key, resize=resize, crop=crop)
        statistics = file_moments(
            images, protocol, weights=inception_weights, device=place, folder=runs / "_features", batch_size=batch_size,
            report=counting,
        )  # fmt: skip
        typer.echo(f"{write_statistics(out, statistics)}: statistics of {images.count} images of {images.image_size} px")
