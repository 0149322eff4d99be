"""`InputError`, raised for bad input, and helpers for its message."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

_MAKE_ROOM = "make room there, or write elsewhere (`runs=`, `out=`); finished work is kept, and the same call resumes"
_NO_PERMISSION = "change its permissions, or write elsewhere (`runs=`, `out=`)"
_NOT_A_FOLDER = "a folder is needed, and there is a file of that name; write elsewhere or remove it"
_REMEDIES = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EIO: "check the disk, or write elsewhere (`runs=`, `out=`)",
    errno.EROFS: "write elsewhere (`runs=`, `out=`)",
    errno.EACCES: _NO_PERMISSION,
    errno.EPERM: _NO_PERMISSION,
    errno.EISDIR: "expected the name of a file",
    errno.ENOTDIR: _NOT_A_FOLDER,
    errno.EEXIST: _NOT_A_FOLDER,
    errno.ENOENT: "it does not exist and cannot be created; check the path",
    errno.ENAMETOOLONG: "use a shorter name",
}


class InputError(ValueError):
    """Bad input from outside: a name, a file, a shape, a number.

    The message is one line: what was given, what was expected, how to fix it. Arguments and settings stand in backticks, as
    they are written in Python: `out=`, `extractor='classifier'`, `train.steps=100`. The command line prints them as its
    options (see `nvgbench.cli.options.as_options`), exits with code 2 and shows no traceback.
    """


def file_error(error: OSError) -> str:
    """One line for an error of the file system: which file, what happened, how to fix it."""
    if error.filename is None:
        return " ".join(str(error).split())
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{error.filename}: {error.strerror}" + (f"; {remedy}" if remedy else "")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the closest of ``known``, or an empty string if none is close."""
    close = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
