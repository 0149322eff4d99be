"""``nvgbench selftest metrics``: which score sees which failure of a generator."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nvgbench.errors import InputError


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    group = typer.Typer(help="Test nvgbench itself.", no_args_is_help=True)

    @group.callback()
    def _group() -> None:
        pass

    @group.command("metrics")
    def test_metrics(
        sizes: Annotated[
            list[str] | None, typer.Option("--size", metavar="N:REPEATS", help="Samples and pairs of sets. Repeatable.")
        ] = None,
        metrics: Annotated[str | None, typer.Option(help="Only these scores or metrics, e.g. FID,recall.")] = None,
        features: Annotated[int, typer.Option(min=2, help="Number of features.")] = 32,
        seed: Annotated[int, typer.Option(min=0, help="Seed of everything drawn.")] = 0,
        quick: Annotated[bool, typer.Option("--quick", help="The same as --size 300:2 --features 8.")] = False,
        out: Annotated[Path | None, typer.Option(help="Also write every number to this CSV file.")] = None,
    ) -> None:
        """Run failures with known answers through every score and print the power with which each is seen, in per cent.

        Bold: seeing the failure is the score's task. Arrows: the failure makes the score better or worse. By default 10 pairs
        of sets of 1,000 samples and 2 of 10,000.
        """
        from nvgbench.cli.progress import counting
        from nvgbench.evaluation.selftest import run_selftest
        from nvgbench.files import write_text

        if quick and sizes:
            raise InputError(f"--quick has sizes of its own, got --size {sizes[0]}; leave one of them out")
        found = run_selftest(
            {300: 2} if quick else dict(map(_size, sizes or ("1000:10", "10000:2"))),
            dimension=8 if quick else features,
            metrics=None if metrics is None else tuple(name.strip() for name in metrics.split(",")),
            seed=seed,
            report=lambda description: counting(description, "sets"),
        )
        if out is not None:
            write_text(out, found.to_frame().to_csv(index=False))
        typer.echo(found.markdown())

    app.add_typer(group, name="selftest")


def _size(text: str) -> tuple[int, int]:
    n, _, repeats = text.partition(":")
    if not n.isdigit() or not (repeats or "1").isdigit():
        raise InputError(f"--size {text}: expected N:REPEATS, such as 1000:10")
    return int(n), int(repeats or 1)
