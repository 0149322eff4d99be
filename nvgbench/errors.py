"""The one exception that means "the input is wrong", as opposed to "the program is"."""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable

_MAKE_ROOM = "make room there, or write elsewhere (--runs, --out); what was finished is kept, the same command goes on"
_REMEDIES = {
    errno.ENOSPC: _MAKE_ROOM,
    errno.EDQUOT: _MAKE_ROOM,
    errno.EIO: "is the disk full or damaged? Make room, or write elsewhere (--runs, --out)",
    errno.EROFS: "write elsewhere (--runs, --out)",
    errno.EACCES: "get the right to it, or use another place (--runs, --out)",
    errno.EPERM: "get the right to it, or use another place (--runs, --out)",
    errno.EISDIR: "a file's name is expected here",
    errno.ENOTDIR: "a folder is needed where a file is; use another place or remove that file",
    errno.EEXIST: "a folder is needed where a file is; use another place or remove that file",
    errno.ENOENT: "it is not there and cannot be made; check the path",
    errno.ENAMETOOLONG: "use a shorter name",
}


class InputError(ValueError):
    """Bad input from outside: a name, a file, a shape, a number.

    The message is one line that says what was given, what was expected and how to mend it.
    The command line prints it and exits with code 2; it never shows a traceback for it.
    """


def file_error(error: OSError) -> str:
    """One line for what the file system said: which file, what happened, how to mend it."""
    if error.filename is None:
        return " ".join(str(error).split())
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{error.filename}: {error.strerror}" + (f"; {remedy}" if remedy else "")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest of ``known``, or an empty string if none is near."""
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
