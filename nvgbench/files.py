"""Writing files completely or not at all, and hashing them."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

StrPath: TypeAlias = str | os.PathLike[str]
"""What functions that take a path accept."""
_FULL_BELOW_BYTES = 1 << 16


@contextmanager
def whole_file(path: StrPath) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it into place if the block succeeds, remove it otherwise.

    A reader never sees half a file, and a full disk or a killed process leaves the old file unchanged.

    Raises:
        OSError: the folder is not writable, or the disk is full; the error names ``path``, never the temporary file.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb+") as written:
                os.fsync(written.fileno())
            temporary.chmod(0o644)
            temporary.replace(path)
        except Exception as error:
            if not isinstance(error, OSError) and is_disk_full(error, path.parent):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _about(error, path) from error


def remove_leftovers(path: StrPath) -> None:
    """Remove the temporary files that killed processes left beside ``path``; no other process may be writing it."""
    path = Path(path)
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
        leftover.unlink(missing_ok=True)


def write_text(path: StrPath, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, completely or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(path: StrPath, line: str) -> None:
    """Append one line to ``path`` and flush it to disk; a last line cut short by a crash gets its newline first.

    Raises:
        OSError: the line could not be written; the file keeps its length, as half a line would break its readers.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as handle:
            end = handle.tell()
            text = line.encode("utf-8") + b"\n"
            if end > 0:
                handle.seek(-1, os.SEEK_END)
                if handle.read(1) != b"\n":
                    text = b"\n" + text
            left = memoryview(text)
            try:
                while left:
                    left = left[handle.write(left) :]
                os.fsync(handle.fileno())
            except OSError:
                handle.truncate(end)
                raise
    except OSError as error:
        raise _about(error, path) from error


def file_sha256(path: StrPath) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def is_disk_full(error: Exception, folder: Path) -> bool:
    """Whether torch or safetensors failed to write because the disk is full: neither passes the system's error number on."""
    if type(error).__name__ == "SafetensorError":
        return "os error 28" in str(error)
    return isinstance(error, RuntimeError) and shutil.disk_usage(folder).free < _FULL_BELOW_BYTES


def _about(error: OSError, path: Path) -> OSError:
    """The same error, naming ``path`` if it names no file or the temporary one."""
    if error.errno is None:  # numpy's message only says how much was written
        return OSError(errno.EIO, f"could not be written completely ({error})", str(path))
    named = [Path(os.fsdecode(name)).name for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    ours = not named or any(name.startswith(f".{path.name}.") for name in named)
    return OSError(error.errno, error.strerror, str(path) if ours else error.filename)
