"""Trained weights by name: those of a run, or of a published file, which is imported for the time of their use."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nvgbench.config.schema import RunConfig
from nvgbench.files import StrPath
from nvgbench.runs.find import find_run, is_run
from nvgbench.weights.families import find_published, hub_files
from nvgbench.weights.imports import import_run


@contextmanager
def source_run(
    given: StrPath | None, runs: StrPath, config: RunConfig, *, tokenizer: StrPath | None = None
) -> Iterator[Path | None]:
    """The folder of the run with these weights; for a published file, a temporary one.

    Args:
        given: a run (name in ``runs``, or folder), a published file, or its name; None yields None.
        runs: the folder of runs.
        config: that a published file must fit.
        tokenizer: published file or name of the tokenizer of a published generator.

    Raises:
        InputError: no such run or file, or a file that does not fit.
    """
    if given is None:
        yield None
        return
    if is_run(given, runs) or not _is_published(given):
        yield find_run(given, runs).path
        return
    file = find_published(str(given))
    second = find_published(str(tokenizer)) if tokenizer is not None and _is_published(tokenizer) else None
    Path(runs).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".weights-", dir=runs) as folder:
        yield import_run(Path(folder) / file.name, file, second, config=config).path


def _is_published(given: StrPath) -> bool:
    return Path(given).is_file() or str(given) in hub_files()
