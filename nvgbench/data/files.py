"""The image files of a folder: one list of suffixes for training and for scoring, and a count of what is left out."""

from __future__ import annotations

import errno
import os
from collections import Counter
from dataclasses import dataclass

from nvgbench.data.remarks import Remark, counted
from nvgbench.files import StrPath

SUFFIXES = frozenset({
    ".apng", ".avif", ".avifs", ".bmp", ".bw", ".dds", ".dib", ".gif", ".icb", ".ico", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc",
    ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".qoi",
    ".ras", ".rgb", ".rgba", ".sgi", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp", ".xbm", ".xpm",
})  # fmt: skip
"""Suffixes of what Pillow reads without other programs."""
EVAL_FOLDERS = ("val", "validation", "valid", "eval", "test")
"""Names of a folder of held-out images beside ``train``, in the order in which they are looked for."""
SPLIT_FOLDERS = frozenset({"train", *EVAL_FOLDERS})
_SYSTEM_FOLDERS = frozenset({"__MACOSX", "@eaDir"})
"""Copies and thumbnails that archivers and file servers put beside images."""
_MOST_DETAILS = 5


LeftOut = Counter[tuple[str, str]]
"""(what, detail) -> how many, such as ("other file", ".txt") -> 3."""


@dataclass(frozen=True)
class Listing:
    """The image files of a folder.

    Attributes:
        paths: relative to the folder, with ``/``, sorted by their parts.
        left_out: what else there is.
    """

    paths: tuple[str, ...]
    left_out: LeftOut


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is left out whatever it holds."""
    return name.startswith(".") or name in _SYSTEM_FOLDERS


def is_image_name(name: str) -> bool:
    """Whether a file of this name is read as an image."""
    return _suffix(name) in SUFFIXES and not is_hidden(name)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def left_out_remarks(left_out: LeftOut, name: str) -> tuple[Remark, ...]:
    """One line that counts what was left out of the folder ``name``; none if nothing was."""
    if not left_out:
        return ()
    parts = []
    for what in sorted({what for what, _ in left_out}):
        details = sorted({detail for kind, detail in left_out if kind == what and detail})
        number = sum(number for (kind, _), number in left_out.items() if kind == what)
        shown = ", ".join(details[:_MOST_DETAILS]) + (" …" if len(details) > _MOST_DETAILS else "")
        parts.append(counted(number, what) + (f" ({shown})" if shown else ""))
    return (Remark("files", f"left out of {name}: {', '.join(parts)}"),)


def list_images(folder: StrPath) -> Listing:
    """Image files in ``folder`` and its sub-folders, linked ones included.

    Left out are hidden files and folders, links to nothing or to themselves, links to folders that are in the set already
    (among them every loop), and files with other suffixes than `SUFFIXES`.

    Raises:
        OSError: a folder cannot be listed.
    """
    found: list[str] = []
    left_out: LeftOut = Counter()
    seen = _identities_above(folder)
    folders, links = [""], list[str]()  # folders before links, so that a folder is listed under its own name
    while folders or links:
        place = folders.pop() if folders else links.pop(0)
        identity = _identity(os.path.join(folder, place))
        if identity in seen:
            left_out["linked folder", "already in the set"] += 1
            continue
        seen.add(identity)
        with os.scandir(os.path.join(folder, place)) as entries:
            for entry in entries:
                path = f"{place}/{entry.name}" if place else entry.name
                kind = _kind(entry)
                if kind == "folder" and is_hidden(entry.name):
                    left_out["hidden folder", entry.name] += 1
                elif kind == "folder":
                    (links if entry.is_symlink() else folders).append(path)
                elif kind != "file":
                    left_out[kind, ""] += 1
                elif is_image_name(entry.name):
                    found.append(path)
                elif not is_hidden(entry.name):
                    left_out["other file", _suffix(entry.name) or "no suffix"] += 1
                elif _suffix(entry.name) in SUFFIXES:
                    left_out["hidden image", ""] += 1
        links.sort()
    return Listing(tuple(sorted(found, key=lambda path: path.split("/"))), left_out)


def _kind(entry: os.DirEntry[str]) -> str:
    """``folder`` or ``file``, as far as links lead to one, else what it is."""
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return "link to itself"
    return "dangling link" if entry.is_symlink() else "special file"


def _identities_above(folder: StrPath) -> set[tuple[int, int]]:
    """Identities of all folders above ``folder``, as written and as resolved: a link to one of them is a loop."""
    above = set()
    for path in (os.path.abspath(folder), os.path.realpath(folder)):
        while path != (path := os.path.dirname(path)):
            above.add(_identity(path))
    return above


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
