"""Damaged files, and readers that must tolerate them."""

from __future__ import annotations

import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from hypothesis import strategies as st

from nvgbench.errors import InputError

MOST_MEMORY = 1 << 30
"""Bytes that reading a small file may add to the process."""
MOST_SECONDS = 20
"""Of one example; a hundred times what the slowest takes on a busy machine."""
_NEW = [b"\0" * 4, b"\xff" * 4, b"\x7f\xff", b"[" * 5000, b"{", b'"', b"-1", b"1e999", b"NaN", b"\n", b"null"]


@st.composite
def damaged(draw: st.DrawFn, valid: st.SearchStrategy[bytes]) -> bytes:
    """A valid file with some bytes replaced, then perhaps cut, repeated or prolonged."""
    content = bytearray(draw(valid))
    for _ in range(draw(st.integers(0, 8))):
        # Most of what a reader believes stands at the beginning or, of archives, at the end.
        place = draw(st.one_of(st.integers(0, 200), st.integers(0, len(content) - 1), st.integers(-200, -1)))
        new = draw(st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from(_NEW)))
        place %= len(content)
        content[place : place + len(new)] = new
    change = draw(st.sampled_from(["none", "none", "cut", "tail", "twice"]))
    if change == "cut":
        return bytes(content[: draw(st.integers(0, len(content)))])
    if change == "tail":
        return bytes(content) + draw(st.binary(max_size=40))
    return bytes(content) * (2 if change == "twice" else 1)


def tolerated(read: Callable[[], object]) -> None:
    """Read: a result or one line, in little time and memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = "one line"
    with _time_limit():
        try:
            read()
        except InputError as error:
            said = str(error)
    assert len(said.splitlines()) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY / 1024


@contextmanager
def _time_limit() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"still reading after {MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
