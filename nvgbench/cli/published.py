"""Options for published weights: they are imported as a run first, which the command then uses like any other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nvgbench.errors import InputError

if TYPE_CHECKING:
    from nvgbench.runs.folder import RunFolder

Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="PATH|NAME",
        help="First import this published file (var_d16.pth …) as RUN, like 'nvgbench import'. If RUN is the name of a preset, "
        "the sizes must be the preset's.",
    ),
]
PublishedTokenizer = Annotated[
    str | None, typer.Option("--tokenizer", metavar="PATH|NAME", help="With --weights: the published tokenizer.")
]


def run_path(name: str, runs: Path) -> Path:
    """Folder of the run ``name``: a plain name is a folder in ``runs``, anything else a path."""
    return Path(name) if Path(name).name != name else runs / name


def import_published(folder: Path, weights: str, tokenizer: str | None, **choices: Any) -> RunFolder:
    """Import published files, given by path or name, as the run ``folder``; see `nvgbench.weights.imports.import_run`.

    Raises:
        InputError: no such file or name, or it does not fit.
    """
    from nvgbench.weights.families import find_published
    from nvgbench.weights.imports import import_run

    return import_run(folder, find_published(weights), None if tokenizer is None else find_published(tokenizer), **choices)


def import_first(names: list[str], runs: Path, weights: str | None, tokenizer: str | None, data: str | None = None) -> None:
    """Import the files of ``--weights`` and ``--tokenizer`` before a command opens its run.

    Args:
        names: the runs that the command was given; ``--weights`` needs exactly one.
        runs: folder of the runs.
        weights, tokenizer: the options; without ``--weights`` nothing is done.
        data: data source of the new run; the published models' own if not given.

    Raises:
        InputError: several runs, a tokenizer alone, or a file that does not fit.
    """
    if weights is None:
        if tokenizer is not None:
            raise InputError(f"--tokenizer {tokenizer} goes with --weights; a run already has its tokenizer")
        return
    if len(names) != 1:
        raise InputError(f"--weights imports one run, got {len(names)} names; give one RUN")
    from nvgbench.config.load import load_preset
    from nvgbench.registry import preset_files

    config = load_preset(names[0], (), data) if names[0] in preset_files() else None
    import_published(run_path(names[0], runs), weights, tokenizer, config=config, data=data)
