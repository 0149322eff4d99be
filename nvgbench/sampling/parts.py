"""Which part of a sampler the time goes to: samplers name their parts, a profile times them."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

_CLOCKS: list[PartClock] = []


class PartClock:
    """Seconds by part, while it is entered.

    A part within another is counted as its own, not as the outer one's.

    Args:
        synchronize: waits until the device is idle, so that a part's time is that of its kernels.
    """

    def __init__(self, synchronize: Callable[[], None]) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._synchronize = synchronize
        self._open: list[str] = []
        self._since = 0.0

    def __enter__(self) -> PartClock:
        _CLOCKS.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _CLOCKS.remove(self)

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def _turn(self) -> None:
        """Add the time since the last turn to the innermost open part."""
        self._synchronize()
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1]] += now - self._since
        self._since = now


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """What runs within is the part ``name`` of the sampler, e.g. ``decoder``; costs nothing while no clock runs."""
    if not _CLOCKS:
        yield
        return
    with _CLOCKS[-1].measure(name):
        yield
