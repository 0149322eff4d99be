"""Streams as a shell would set them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def unread_pipe(encoding: str) -> Iterator[TextIO]:
    """A stream into a pipe whose reader is gone, as after ``| head -0``."""
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.suppress(BrokenPipeError), open(writer, "w", encoding=encoding, errors="strict") as stream:
        yield stream
