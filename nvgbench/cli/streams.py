"""Standard output and error that accept every character and outlive their reader.

A character that the encoding lacks is spelled in ASCII. If a pipe is closed (``nvgbench report | head``) or a disk is full, the
rest of the output is dropped and the command finishes its work.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_HANDLER = "nvgbench.ascii"
_SPELLED = {
    "∞": "inf", "−": "-", "–": "-", "×": "x", "·": "*", "…": "...", "±": "+/-", "≥": ">=", "≤": "<=", "→": "->",  # noqa: RUF001
    "²": "^2", "√": "sqrt",
}  # fmt: skip


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Replace the standard streams within the block; streams that a test or a notebook has set stay.

    Raises:
        OSError: at the end, if standard output could not be written; not for a closed pipe, whose reader has seen enough.
    """
    _open_missing_descriptors()
    codecs.register_error(_HANDLER, _in_ascii)
    before = sys.stdout, sys.stderr
    failures: list[OSError] = []
    if sys.stdout is sys.__stdout__ and sys.stdout is not None:
        sys.stdout = _lasting(sys.stdout, failures)
    if sys.stderr is sys.__stderr__ and sys.stderr is not None:
        sys.stderr = _lasting(sys.stderr, [])
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before
    for error in failures:
        if error.errno != errno.EPIPE:
            raise OSError(error.errno, error.strerror, "standard output")


class _Descriptor(io.FileIO):
    """A file descriptor that drops what it cannot write, and notes the first failure."""

    def __init__(self, number: int, failures: list[OSError]) -> None:
        super().__init__(number, "w", closefd=False)
        self._failures = failures

    def write(self, content: Any, /) -> int:
        if not self._failures:
            try:
                return super().write(content)
            except OSError as error:
                self._failures.append(error)
        return memoryview(content).nbytes


def _lasting(stream: Any, failures: list[OSError]) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(stream.fileno(), failures)),
        encoding=stream.encoding,
        errors=_HANDLER,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _in_ascii(error: UnicodeError) -> tuple[str, int]:
    """Spell the characters that an encoding lacks; those without a spelling get JSON's escapes, as output may be JSON."""
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(_SPELLED.get(character) or json.dumps(character)[1:-1] for character in missing), error.end


def _open_missing_descriptors() -> None:
    """Open the null device for standard streams that are closed; otherwise the next file would get their number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
