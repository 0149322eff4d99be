"""The image files of a folder: one list of suffixes for training and for scoring."""

from __future__ import annotations

import os
from pathlib import Path

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def list_images(folder: str | os.PathLike[str]) -> tuple[str, ...]:
    """Image files in ``folder`` and its sub-folders, hidden ones left out.

    Returns:
        Paths relative to ``folder`` with ``/``, sorted by their parts.
    """
    found: list[str] = []
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(place).relative_to(folder)
        found += [
            (below / name).as_posix()
            for name in names
            if os.path.splitext(name)[1].lower() in SUFFIXES and not name.startswith(".")
        ]
    return tuple(sorted(found, key=lambda path: path.split("/")))
