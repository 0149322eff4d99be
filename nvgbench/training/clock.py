"""Seconds spent training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Seconds spent training, without interruptions and the writing of checkpoints.

    Args:
        before: seconds of an interrupted training.
    """

    def __init__(self, before: float = 0.0) -> None:
        self._before = before
        self.start(images=0)

    def start(self, images: int) -> None:
        """Start now, after ``images`` images."""
        self._started = time.perf_counter() - self._before
        self._last = images, self.seconds
        self._waited = 0.0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def rate(self, images: int) -> tuple[float, float]:
        """Images per second since the last call, and the share of that time spent `waiting`."""
        now = self.seconds
        elapsed = max(now - self._last[1], 1e-9)
        rate, share = (images - self._last[0]) / elapsed, min(self._waited / elapsed, 1.0)
        self._last, self._waited = (images, now), 0.0
        return rate, share

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Time within the block is spent waiting for data; it counts."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._waited += time.perf_counter() - began

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time within the block does not count."""
        paused = time.perf_counter()
        yield
        self._started += time.perf_counter() - paused
