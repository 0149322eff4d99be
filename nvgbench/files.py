"""Writing files whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NO_ROOM = 1 << 16


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it into place when the block ends well, remove it when not.

    A reader never sees half a file, and a full disk or a killed process leaves the old file as it was.

    Raises:
        OSError: the folder cannot be written to, or the disk is full; it names ``path``, never the temporary file.
    """
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
            if not isinstance(error, OSError) and speaks_of_a_full_disk(error, path.parent):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _of(error, path) from error


def write_text(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Append one line to ``path`` and flush it to disk; a line cut short by a crash is finished with a newline first.

    Raises:
        OSError: it could not be written; the file is as long as it was, for half a line would spoil it for its readers.
    """
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
        raise _of(error, path) from error


def speaks_of_a_full_disk(error: Exception, folder: Path) -> bool:
    """torch and safetensors do not pass on what the file system said: one says nothing of it, the other says it in words."""
    if type(error).__name__ == "SafetensorError":
        return "os error 28" in str(error)
    return isinstance(error, RuntimeError) and shutil.disk_usage(folder).free < _NO_ROOM


def _of(error: OSError, path: Path) -> OSError:
    """The same error with the file that was to be written, where it names none or only the temporary one."""
    if error.errno is None:  # numpy says in words alone how much of what was written
        return OSError(errno.EIO, f"could not be written whole ({error})", str(path))
    named = [Path(os.fsdecode(name)).name for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    ours = not named or any(name.startswith(f".{path.name}.") for name in named)
    return OSError(error.errno, error.strerror, str(path) if ours else error.filename)
