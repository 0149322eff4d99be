"""SHA-256 of the files of a data set, remembered between calls by their size and times.

The memory is a text file per folder in the user's cache. It saves reading all images again, nothing else: without it, or if
it cannot be read or written, everything is hashed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nvgbench.data.threads import in_threads
from nvgbench.files import StrPath, file_sha256, whole_file

CACHE_VARIABLE = "NVGBENCH_CACHE"
_FORMAT = "nvgbench file hashes 1"
_CHUNK = 4096
"""Files that are hashed before the memory is extended, so that an interruption loses little."""
_SETTLED_NS = 2_000_000_000
"""A file that changed less than this ago is not remembered: it could change again within a tick of the file system's clock."""


class _Stamp(NamedTuple):
    size: int
    modified_ns: int
    changed_ns: int
    """Time of the last change of the inode, which no program can set back."""


def file_hashes(root: StrPath, paths: Sequence[str]) -> list[str]:
    """SHA-256 (hex) of each file.

    Args:
        root: folder of the data set.
        paths: of the files, relative to ``root``.

    Raises:
        OSError: a file cannot be read.
    """
    memory = _memory(root)
    known = _read(memory)
    hashes: list[str] = []
    fresh = False
    try:
        for start in range(0, len(paths), _CHUNK):
            chunk = paths[start : start + _CHUNK]
            stamps = [_stamp(root, path) for path in chunk]
            missing = [path for path, stamp in zip(chunk, stamps, strict=True) if known.get(path, (None, ""))[0] != stamp]
            found = dict(zip(missing, in_threads(lambda path: file_sha256(os.path.join(root, path)), missing), strict=True))
            for path, stamp in zip(chunk, stamps, strict=True):
                if path in found:
                    known[path] = stamp, found[path]
                hashes.append(known[path][1])
            fresh = fresh or bool(found)
    finally:
        if fresh:
            _write(memory, known)
    return hashes


def cache_folder() -> Path | None:
    """The user's cache of nvgbench: ``$NVGBENCH_CACHE``, else ``~/.cache/nvgbench``; None if the user has no home."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    try:
        return Path.home() / ".cache" / "nvgbench"
    except RuntimeError:
        return None


def _memory(root: StrPath) -> Path | None:
    folder = cache_folder()
    name = hashlib.sha256(os.fsencode(os.path.realpath(root))).hexdigest()[:32]
    return None if folder is None else folder / "file-hashes" / f"{name}.txt"


def _stamp(root: StrPath, path: str) -> _Stamp:
    status = os.stat(os.path.join(root, path))
    return _Stamp(status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _read(memory: Path | None) -> dict[str, tuple[_Stamp, str]]:
    """Path -> stamp and hash; empty if there is no memory, or it is damaged."""
    known = {}
    try:
        if memory is not None:
            with memory.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
                if next(lines, "").rstrip("\n") == _FORMAT:
                    for line in lines:
                        sha256, size, modified, changed, path = line.rstrip("\n").split("\t", 4)
                        known[path] = _Stamp(int(size), int(modified), int(changed)), sha256
    except (OSError, ValueError):
        return {}
    return known


def _write(memory: Path | None, known: dict[str, tuple[_Stamp, str]]) -> None:
    settled = time.time_ns() - _SETTLED_NS
    lines = [
        "\t".join((sha256, *map(str, stamp), path))
        for path, (stamp, sha256) in known.items()
        if max(stamp.modified_ns, stamp.changed_ns) < settled and "\n" not in path
    ]
    if memory is None or not lines:
        return
    with contextlib.suppress(OSError), whole_file(memory) as temporary:  # read-only or full: hashed again next time
        temporary.write_bytes("\n".join([_FORMAT, *lines, ""]).encode("utf-8", "surrogateescape"))
