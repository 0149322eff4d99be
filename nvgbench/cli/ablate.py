"""``nvgbench ablate``: studies that change one thing and measure the effect."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nvgbench.cli.options import DEFAULT_RUNS, Device, RunsRoot

if TYPE_CHECKING:
    from rich.table import Table

    from nvgbench.results.schema import RunRecord
    from nvgbench.runs.folder import RunFolder


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Studies: change one thing, measure the effect.")
    group.command("list")(_list)
    group.command("clusters")(_clusters)
    app.add_typer(group, name="ablate")


def _list() -> None:
    """List the studies, what they vary and what they report."""
    from nvgbench.ablations.plan import STUDIES

    for study in STUDIES.values():
        typer.echo(f"{study.name}: {study.question}")
        for title, entries in (("varies", study.varies), ("reports", study.reports)):
            typer.echo(f"  {title}")
            for name, text in entries.items():
                typer.echo(f"    {name}: {text}")


def _clusters(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUN…", help="Runs with a trained tokenizer; the first one is perturbed.")
    ],
    images: Annotated[int, typer.Option("--images", "-n", min=2, help="Number of held-out images.")] = 128,
    retrain: Annotated[
        int, typer.Option(min=0, help="First train this many more tokenizers like the first run's, with other seeds.")
    ] = 0,
    data: Annotated[str | None, typer.Option(help="Data source of the images; the first run's by default.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the noise and of the random splits.")] = 0,
    out: Annotated[Path | None, typer.Option(help="Records file or folder; the folder of runs by default.")] = None,
    root: RunsRoot = DEFAULT_RUNS,
    device: Device = "auto",
) -> None:
    """Stability of structure maps: tokenizer seeds, noise, flips, shifts, crops, bf16; three clusterings, against chance.

    With one run the comparison of tokenizer seeds is skipped; name several, or use --retrain.
    """
    from rich.console import Console

    from nvgbench.api.jobs import ablate, append
    from nvgbench.cli.progress import counting
    from nvgbench.device import resolve_device
    from nvgbench.runs.find import find_run

    targets = [find_run(run, root) for run in runs]
    if retrain:
        targets += _retrain(targets[0], retrain, root, resolve_device(device))
    with counting("structure maps") as progress:
        record = ablate(
            "clusters", [run.path for run in targets],
            images=images, seed=seed, data=data, device=device, runs=root, progress=progress,
        )  # fmt: skip
    path = append(record, root if out is None else out)
    console = Console()
    for table in cluster_tables(record):
        console.print(table)
        console.print()
    if len(targets) == 1:
        typer.echo("one run: tokenizer seeds were not compared (name more runs, or use --retrain 1)")
    typer.echo(f"added to {path}")


def _retrain(run: RunFolder, count: int, root: Path, device: Any) -> list[RunFolder]:
    from nvgbench.ablations.runner import retrained_tokenizers
    from nvgbench.cli.training_progress import training_progress
    from nvgbench.training.interrupt import Interrupted

    try:
        return list(retrained_tokenizers(run, count, root=root, device=device, showing=training_progress))
    except Interrupted:
        typer.echo("interrupted; run the same command to resume", err=True)
        raise typer.Exit(130) from None


def cluster_tables(record: RunRecord) -> list[Table]:
    """The record's two tables for a terminal: one column per stage, headed by its number of tokens."""
    from rich.table import Table

    stability, quality = record.tables["cluster_stability"], record.tables["cluster_quality"]
    tokens = [str(row["tokens"]) for row in quality if row["clustering"] == quality[0]["clustering"]]
    title = f"Agreement of structure maps by tokens: adjusted Rand index, then NMI ({stability[0]['n']} images)"
    agreement = Table("perturbed", "level", "clustering", *tokens, title=title, box=None, title_justify="left")
    for rows in _lines(stability, len(tokens)):
        cells = [f"{_short(row['ari_mean'])} {_short(row['nmi_mean'])}" for row in rows]
        agreement.add_row(rows[0]["perturbation"], rows[0]["level"], rows[0]["clustering"], *cells)
    title = "Share of the features' sum of squares that the cluster means explain"
    explained = Table("clustering", *tokens, title=title, box=None, title_justify="left")
    for rows in _lines(quality, len(tokens)):
        explained.add_row(rows[0]["clustering"], *[_short(row["explained_mean"]) for row in rows])
    return [agreement, explained]


def _lines(rows: Sequence[dict[str, Any]], stages: int) -> Iterator[Sequence[dict[str, Any]]]:
    """The rows of each setting in turn, one per stage."""
    for start in range(0, len(rows), stages):
        yield rows[start : start + stages]


def _short(score: float | None) -> str:
    """Two decimals without the leading zero; narrow enough for seven stages with two scores each."""
    if score is None:
        return "-"
    text = f"{round(score, 2) + 0.0:.2f}"
    return "1" if text == "1.00" else text.replace("0.", ".", 1)
