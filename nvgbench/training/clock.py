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

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def rate(self, images: int) -> float:
        """Images per second since the last call."""
        now = self.seconds
        rate = (images - self._last[0]) / max(now - self._last[1], 1e-9)
        self._last = images, now
        return rate

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Time within the block does not count."""
        paused = time.perf_counter()
        yield
        self._started += time.perf_counter() - paused
