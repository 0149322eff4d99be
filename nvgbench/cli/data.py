"""``nvgbench data``: the data sources, and pictures of them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from nvgbench.errors import InputError

_CHECKED_SIZE = 32
"""Side of the images while they are checked, pixels; files are decoded whole whatever it is."""


class _Split(StrEnum):
    train = "train"
    eval = "eval"


def register(app: typer.Typer) -> None:
    """Add the command group to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="List the data sources, show images of one, or check all of them.")
    group.command("list")(_list)
    group.command("show")(_show)
    group.command("check")(_check)
    app.add_typer(group, name="data")


def _list() -> None:
    """List the data sources that --data accepts."""
    from rich.console import Console
    from rich.table import Table

    from nvgbench.data.catalog import SOURCES

    sources = {}
    for name in SOURCES.names():
        try:
            sources[name] = SOURCES.get(name)
        except InputError as error:  # of an installed package; the other sources are listed all the same
            typer.echo(f"warning: {error}", err=True)
    table = Table("source", "classes", "training images", "held out", "size", "needs", box=None)
    for source in sources.values():
        numbers = (source.num_classes, source.train_images, source.eval_images)
        table.add_row(source.form, *("as found" if n is None else f"{n:,}" for n in numbers), source.size, source.needs)
    Console().print(table)
    typer.echo()
    for name, source in sources.items():
        typer.echo(f"{name}: {source.summary}")


def _show(
    source: Annotated[str, typer.Argument(metavar="NAME", help="A data source as for --data: shapes, imagefolder:PATH …")],
    size: Annotated[int, typer.Option("--size", min=16, max=1024, help="Side of the images, pixels.")] = 32,
    out: Annotated[Path | None, typer.Option("--out", help="PNG to write; named after the source by default.")] = None,
    count: Annotated[int, typer.Option("-n", min=1, max=1000, help="Number of images.")] = 20,
    split: Annotated[_Split, typer.Option("--split", help="Training images or held-out ones.")] = _Split.train,
    seed: Annotated[int, typer.Option("--seed", help="Seed of procedural data.")] = 0,
) -> None:
    """Write a picture of images by class, with object and part masks beside them if there are any."""
    from nvgbench.data.gallery import save_gallery
    from nvgbench.data.source import open_dataset

    if out is not None and out.suffix.lower() != ".png":
        raise InputError(f"--out {out} does not end in .png; the picture is a PNG file")
    dataset = open_dataset(source, image_size=size, split=split.value, seed=seed)
    path = save_gallery(dataset, out or _default_name(source, split.value, size), count)
    for remark in dataset.remarks:
        typer.echo(f"warning: {remark}", err=True)
    typer.echo(f"{dataset.name}: {len(dataset)} images, {len(dataset.classes)} classes")
    typer.echo(str(path))


def _check(
    source: Annotated[str, typer.Argument(metavar="NAME", help="A data source as for --data: shapes, imagefolder:PATH …")],
    seed: Annotated[int, typer.Option("--seed", help="Seed of procedural data.")] = 0,
) -> None:
    """Read every image of both splits; list what looks wrong or cannot be read (then exit with code 1)."""
    from nvgbench.cli.progress import counting
    from nvgbench.data.check import unreadable_images
    from nvgbench.data.source import open_dataset

    failed = 0
    for split in _Split:
        dataset = open_dataset(source, image_size=_CHECKED_SIZE, split=split.value, seed=seed)
        with counting(f"reading {dataset.name}") as progress:
            unreadable = unreadable_images(dataset, progress)
        for line in unreadable:
            typer.echo(f"unreadable: {line}")
        for remark in dataset.remarks:
            typer.echo(f"warning: {remark}")
        typer.echo(f"{dataset.name}: {len(dataset)} images, {len(dataset.classes)} classes, {len(unreadable)} unreadable")
        failed += len(unreadable)
    if failed:
        raise typer.Exit(1)


def _default_name(source: str, split: str, size: int) -> Path:
    name, _, location = source.partition(":")
    stem = "-".join(part for part in (name, Path(location).stem if location else "", split, f"{size}px") if part)
    return Path(f"{stem}.png")
