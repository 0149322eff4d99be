"""Finding runs by name. Importing this file does not import torch."""

from __future__ import annotations

from pathlib import Path

from nvgbench.errors import InputError, did_you_mean
from nvgbench.files import StrPath
from nvgbench.runs.folder import CONFIG, RunFolder


def find_runs(root: StrPath) -> list[RunFolder]:
    """All runs in ``root`` and its subfolders, ``root`` itself included, sorted by path; hidden folders are skipped."""
    root = Path(root)
    found = [path.parent for path in sorted(root.rglob(CONFIG))]
    return [RunFolder(path) for path in found if not any(part.startswith(".") for part in path.relative_to(root).parts)]


def is_run(run: StrPath, root: StrPath) -> bool:
    """Whether there is a run of this name in ``root``, or with this path."""
    return any((path / CONFIG).exists() for path in (Path(root, run), Path(run)))


def find_run(run: StrPath, root: StrPath) -> RunFolder:
    """A run by its name in ``root`` or by the path of its folder.

    Raises:
        InputError: no such run; the message lists the runs in ``root``.
    """
    root = Path(root)
    for path in (root / run, Path(run)):
        if (path / CONFIG).exists():
            return RunFolder(path)
    names = [str(found.path.relative_to(root)) for found in find_runs(root)] if root.is_dir() else []
    known = f"known: {', '.join(names)}" if names else "there are no runs yet; train one first"
    raise InputError(f"no run {str(run)!r} in {root}{did_you_mean(str(run), names)}; {known}")
