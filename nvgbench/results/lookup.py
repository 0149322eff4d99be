"""Scores by the name of a run, of a subject of the records, or of a group of trainings. No torch."""

from __future__ import annotations

import os
from pathlib import Path

from nvgbench.errors import InputError, did_you_mean
from nvgbench.results.compare import Scored, latest_metrics
from nvgbench.results.grouping import training_groups
from nvgbench.results.store import RECORDS_FILE, read_records

_KINDS = ("eval", "reconstruction")


def scores_of(name: str | os.PathLike[str], runs: str | os.PathLike[str]) -> dict[str, Scored]:
    """The newest value of every score (by `score_key`) of a run, a subject or a group of trainings.

    Args:
        name: a run (folder, or name below ``runs``), a subject of the records, or a group of trainings.
        runs: the folder of runs.

    Raises:
        InputError: no scores of that name, or a run folder with scores of several subjects.
    """
    name, root = os.fspath(name), Path(runs)
    file = next((path / RECORDS_FILE for path in (root / name, Path(name)) if (path / RECORDS_FILE).is_file()), None)
    if file is not None:
        found = latest_metrics(read_records(file), _KINDS)
        if len(found) != 1:
            raise InputError(f"{file} has scores of {len(found)} subjects, expected 1; evaluate the run first")
        return next(iter(found.values()))
    records = read_records(root) if root.is_dir() else []
    subjects = latest_metrics(records, _KINDS) | latest_metrics(training_groups(records), _KINDS)
    if name not in subjects:
        known = f"known: {', '.join(subjects)}" if subjects else "evaluate a run first"
        raise InputError(f"no scores of {name!r} in {root}{did_you_mean(name, subjects)}; {known}")
    return subjects[name]
