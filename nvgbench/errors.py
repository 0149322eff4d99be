"""The one exception that means "the input is wrong", as opposed to "the program is"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from outside: a name, a file, a shape, a number.

    The message is one line that says what was given, what was expected and how to mend it.
    The command line prints it and exits with code 2; it never shows a traceback for it.
    """


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest of ``known``, or an empty string if none is near."""
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""
