"""``nvgbench import``: make a run from published weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nvgbench.cli.options import DEFAULT_RUNS, Overrides, RunsRoot
from nvgbench.cli.published import import_published, run_path


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""

    @app.command("import")
    def import_(
        weights: Annotated[
            str, typer.Argument(metavar="WEIGHTS", help="VAR's .pth or NVG's .ckpt, by path or published name (var_d16.pth …).")
        ],
        tokenizer: Annotated[
            str | None,
            typer.Option(metavar="PATH|NAME", help="The generator's tokenizer; not needed if WEIGHTS includes one."),
        ] = None,
        out: Annotated[
            str | None, typer.Option(metavar="RUN", help="Name of the run or path of its folder; by default the file's.")
        ] = None,
        preset: Annotated[str | None, typer.Option(help="Require this preset's sizes; by default they are inferred.")] = None,
        data: Annotated[str | None, typer.Option(help="Data source to score it on; by default imagenet.")] = None,
        settings: Overrides = [],  # noqa: B006 - typer only reads the default
        ema: Annotated[
            bool | None, typer.Option("--ema/--no-ema", help="Averaged or plain generator; averaged if available.")
        ] = None,
        tokenizer_ema: Annotated[
            bool,
            typer.Option("--tokenizer-ema/--no-tokenizer-ema", help="Averaged or plain tokenizer; plain as in the original."),
        ] = False,
        runs: RunsRoot = DEFAULT_RUNS,
    ) -> None:
        """Make a run from published weights, for sample, eval, profile and report.

        Anything that is not a local file is looked up on the Hugging Face Hub (pip install 'nvgbench\\[hub]'):
        vae_ch160v4096z32.pth and var_d16.pth, d20, d24, d30, d36 of FoundationVision/var (MIT); ae.ckpt and d16.ckpt, d20, d24
        of yikaiwang/nvg (gated, non-commercial).
        """
        from nvgbench.config.load import load_preset

        config = None if preset is None else load_preset(preset, settings, data)
        run = import_published(
            run_path(out or Path(weights).stem, runs), weights, tokenizer,
            config=config, settings=settings, data=data, ema=ema, tokenizer_ema=tokenizer_ema,
        )  # fmt: skip
        for phase in ("generator", "tokenizer"):
            state = run.state(phase)
            if state is not None:
                averaged = ", averaged weights in use" if "ema" in state.source["prefixes"] else ""
                typer.echo(f"{phase}: {state.source['file']}, SHA-256 {state.source['sha256'][:16]}…{averaged}")
        typer.echo(f"imported as {run.config.name}: {run.path}")
