"""Published weights on the command line: made into a run, which every other command then takes as any other."""

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
        help="First make RUN of this published file (var_d16.pth …), as 'nvgbench import' does. Named like a preset, it must "
        "have that preset's sizes.",
    ),
]
PublishedTokenizer = Annotated[
    str | None, typer.Option("--tokenizer", metavar="PATH|NAME", help="With --weights: the published tokenizer.")
]


def run_path(name: str, runs: Path) -> Path:
    """Where the run ``name`` is or would be: a bare name below ``runs``, anything else as it is."""
    return Path(name) if Path(name).name != name else runs / name


def import_published(folder: Path, weights: str, tokenizer: str | None, **choices: Any) -> RunFolder:
    """Make ``folder`` a run of published files, given by path or name; see `nvgbench.weights.imports.import_run`.

    Raises:
        InputError: no such file or name, or one that does not fit.
    """
    from nvgbench.weights.families import find_published
    from nvgbench.weights.imports import import_run

    return import_run(folder, find_published(weights), None if tokenizer is None else find_published(tokenizer), **choices)


def import_first(names: list[str], runs: Path, weights: str | None, tokenizer: str | None, data: str | None = None) -> None:
    """What ``--weights`` does before a command looks for its run; without it, nothing.

    Args:
        names: the runs that the command was given; ``--weights`` goes with exactly one.
        data: data source of the run that is made; the published models' own where not given.

    Raises:
        InputError: several runs, a tokenizer alone, or a file that does not fit.
    """
    if weights is None:
        if tokenizer is not None:
            raise InputError(f"--tokenizer {tokenizer} goes with --weights FILE; a run has its tokenizer already")
        return
    if len(names) != 1:
        raise InputError(f"--weights makes one run, got {len(names)} names; give one RUN")
    from nvgbench.config.load import load_preset
    from nvgbench.registry import preset_files

    config = load_preset(names[0], (), data) if names[0] in preset_files() else None
    import_published(run_path(names[0], runs), weights, tokenizer, config=config, data=data)
