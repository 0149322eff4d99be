"""What a run knows of its data set: ``dataset.json``. Importing this file does not import torch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from nvgbench.errors import InputError


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """The data set that a run was trained on.

    Attributes:
        name: of the source, for display.
        classes: names of the classes; a label is an index into them. None for a training without classes.
        images: number of training images.
        fingerprint: SHA-256 of what determines the images.
        relative: path of the images relative to the run's folder, if they are files; so both can be moved together.
        accepted: the images before, if others were accepted: ``images``, ``fingerprint``, and the ``steps`` of each phase then.
    """

    name: str
    classes: tuple[str, ...]
    images: int
    fingerprint: str
    relative: str = ""
    accepted: tuple[dict[str, Any], ...] = ()


def read_dataset_info(path: Path) -> DatasetInfo:
    """The data set noted at ``path``.

    Raises:
        InputError: the training has not opened it yet, or the file is damaged.
    """
    try:
        return TypeAdapter(DatasetInfo).validate_python(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: the training of this run has not started") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({' '.join(str(error).split())}); remove it and train again") from None


def check_images(run: Path, before: DatasetInfo, now: DatasetInfo, accept: bool = False) -> None:
    """Compare images with those that a run was started with, wherever they are.

    Args:
        run: the run's folder.
        before, now: the images.
        accept: whether other images of the same classes will do.

    Raises:
        InputError: they are others.
    """
    if before.fingerprint == now.fingerprint:
        return
    if before.classes != now.classes:
        raise InputError(
            f"{run} was started with other classes ({_named(before.classes)}; now {_named(now.classes)}); restore them or use "
            "another `name=`"
        )
    if not accept:
        raise InputError(
            f"{run} was started with other images ({before.images} of {before.name}; now {now.images} of {now.name}, or their "
            "content changed); restore them, resume with these by `accept_data=True`, or use another `name=`"
        )


def relative_location(source: str, run: Path) -> str:
    """The path of a source's files from the run's folder; empty if it has none, or if only the root is common to both."""
    location = source.partition(":")[2]
    if not location or not os.path.exists(location):
        return ""
    place, run = Path(location).resolve(), run.resolve()
    return "" if os.path.commonpath([place, run]) == os.sep else os.path.relpath(place, run)


def moved_source(source: str, run: Path, relative: str) -> str:
    """The source, with the place beside the run if its files are no longer where they were, and are there."""
    name, _, location = source.partition(":")
    if not location or not relative or os.path.lexists(location):
        return source
    beside = os.path.normpath(run.resolve() / relative)
    return f"{name}:{beside}" if os.path.exists(beside) else source


def _named(classes: tuple[str, ...]) -> str:
    return ", ".join(classes[:5]) + (f" and {len(classes) - 5} more" if len(classes) > 5 else "")
