"""``nvgbench doctor``: why a score is not the expected one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nvgbench.cli.options import DEFAULT_RUNS, Device, RunsRoot


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command("doctor")
    def examine(
        samples: Annotated[Path, typer.Option(help="An .npz (arr_0: uint8 NHWC), folder or .zip of images, or a run.")],
        reference: Annotated[str, typer.Option(help="Data source, .npz, folder, or a file of statistics.")],
        expected: Annotated[float | None, typer.Option(help="The score that it should be, e.g. the paper's.")] = None,
        score: Annotated[str, typer.Option(help="FID (with any extractor) or IS.")] = "FID",
        extractor: Annotated[
            str | None, typer.Option(help="By default inception where its weights are, else one that needs no download.")
        ] = None,
        extractor_weights: Annotated[Path | None, typer.Option(help="File or folder with the extractor's weights.")] = None,
        other_reference: Annotated[
            list[str] | None,
            typer.Option(help="Another reference that the expected score may have been computed with. Repeatable."),
        ] = None,
        key: Annotated[str | None, typer.Option(help="Name of the images in the .npz of --samples, if not arr_0.")] = None,
        resize: Annotated[
            int | None, typer.Option(min=1, help="Bring all files to this side, pixels (bicubic; other filters are tried).")
        ] = None,
        crop: Annotated[str | None, typer.Option(help="center: crop all files to their centre square.")] = None,
        n: Annotated[
            int, typer.Option("-n", "--number", help="Most images per side for the variants; the score is of all.")
        ] = 2000,
        as_json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")] = False,
        batch_size: Annotated[int, typer.Option(min=1)] = 64,
        device: Device = "auto",
        runs: RunsRoot = DEFAULT_RUNS,
    ) -> None:
        """Explain why a score is not the expected one.

        Scores the images under every variant that is known to move scores (rounding, channel order, range, resizing, JPEG,
        copies, number, order, precision, other statistics, protocols of other libraries) and ranks the causes. Every variant
        takes one pass through the extractor, which is kept, so that the next call is quick.
        """
        import json

        from nvgbench.api.doctor import doctor
        from nvgbench.cli.progress import counting
        from nvgbench.results.store import plain

        found = doctor(
            samples, reference, expected=expected, score=score, extractor=extractor, extractor_weights=extractor_weights,
            other_references=other_reference or (), n=n, key=key, resize=resize, crop=crop, batch_size=batch_size,
            device=device, cache=runs / "_features", runs=runs, report=counting,
        )  # fmt: skip
        typer.echo(json.dumps(plain(found.to_dict()), indent=1, ensure_ascii=False) if as_json else str(found))
