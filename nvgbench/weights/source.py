"""Trained weights by name: of a run, of a tokenizer that comes with a family, or of a published file.

A published file is imported for the time of its use.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file
from pathlib import Path

from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError, did_you_mean
from nvgbench.files import StrPath
from nvgbench.registry import tokenizer_folders
from nvgbench.runs.find import find_run, is_run
from nvgbench.weights.families import find_published, hub_files
from nvgbench.weights.imports import import_run


@contextmanager
def source_run(
    given: StrPath | None, runs: StrPath, config: RunConfig, *, tokenizer: StrPath | None = None
) -> Iterator[Path | None]:
    """The folder of the run with these weights; for a published file, a temporary one.

    Args:
        given: a run (name in ``runs``, or folder), a tokenizer that comes with a family, a published file, or its name; None
            yields None.
        runs: the folder of runs.
        config: that a published file must fit.
        tokenizer: published file or name of the tokenizer of a published generator.

    Raises:
        InputError: no such run or file, or a file that does not fit.
    """
    if given is None:
        yield None
        return
    packaged = tokenizer_folders()
    if str(given) in packaged and not is_run(given, runs):
        with as_file(packaged[str(given)]) as folder:
            yield folder
        return
    if is_run(given, runs) or not _is_published(given):
        yield _find_run(given, runs)
        return
    file = find_published(str(given))
    second = find_published(str(tokenizer)) if tokenizer is not None and _is_published(tokenizer) else None
    Path(runs).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".weights-", dir=runs) as folder:
        yield import_run(Path(folder) / file.name, file, second, config=config).path


def _find_run(given: StrPath, runs: StrPath) -> Path:
    try:
        return find_run(given, runs).path
    except InputError as error:
        raise InputError(f"{error}{did_you_mean(str(given), tokenizer_folders())}") from None


def _is_published(given: StrPath) -> bool:
    return Path(given).is_file() or str(given) in hub_files()
