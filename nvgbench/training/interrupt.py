"""Handling of signals that ask a training to stop: finish the step, write a checkpoint, stop."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

# SIGUSR1 is what batch systems send before the time is up; SIGHUP comes when the terminal is closed.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
# A signal to the process group arrives a second time through torchrun, within milliseconds.
_SAME_REQUEST_SECONDS = 1.0


class Interrupted(KeyboardInterrupt):
    """The training was told to stop and has saved its state; the same call resumes."""


class StopSignal:
    """Records the first SIGINT, SIGTERM, SIGHUP or SIGUSR1; a SIGINT or SIGTERM some time later ends the process at once.

    SIGHUP stays ignored under ``nohup``. As a context manager it installs its handlers and restores the old ones at the end.
    Outside the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.received = False
        self._when = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self._when = True, now
        elif number in (signal.SIGINT, signal.SIGTERM) and now - self._when > _SAME_REQUEST_SECONDS:
            raise KeyboardInterrupt
