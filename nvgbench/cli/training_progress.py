"""Progress display of a training: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from nvgbench.cli.options import as_options
from nvgbench.interfaces import Progress

_LINE_SECONDS = 10.0
_REFRESH_SECONDS = 0.1


@contextmanager
def training_progress(name: str) -> Iterator[Progress]:
    """Yield the ``progress`` argument of `nvgbench.training.run.train_run`; everything is printed to stderr."""
    if not sys.stderr.isatty():
        yield _Lines(name)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield _Bars(bars, name)


class _Lines:
    """A line at the start and end of a phase, and every ten seconds."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._phase = ""
        self._numbers = ""
        self._started, self._first, self._last = 0.0, 0, 0.0

    def __call__(self, event: Mapping[str, Any]) -> None:
        if "message" in event:
            print(f"{self._name}: {as_options(event['message'])}", file=sys.stderr, flush=True)
            return
        now = time.monotonic()
        if event["phase"] != self._phase:
            self._phase, self._numbers = event["phase"], ""
            self._started, self._first, self._last = now, event["done"], now
        self._numbers = _numbers(event) or self._numbers
        if event["done"] < event["total"] and now - self._last < _LINE_SECONDS:
            return
        self._last = now
        done = event["done"] - self._first
        left = (now - self._started) / done * (event["total"] - event["done"]) if done else 0.0
        parts = [f"{self._name}: {self._phase} {event['done']}/{event['total']}", self._numbers]
        parts += [f"{_duration(left)} left"] if left else []
        print(", ".join(part for part in parts if part), file=sys.stderr, flush=True)


class _Bars:
    """One bar per phase."""

    def __init__(self, bars: Any, name: str) -> None:
        self._bars = bars
        self._name = name
        self._tasks: dict[str, Any] = {}
        self._last = 0.0

    def __call__(self, event: Mapping[str, Any]) -> None:
        if "message" in event:
            self._bars.console.print(f"{self._name}: {as_options(event['message'])}", markup=False, highlight=False)
            return
        phase, now = event["phase"], time.monotonic()
        new = phase not in self._tasks
        if not (new or "losses" in event or event["done"] == event["total"] or now - self._last > _REFRESH_SECONDS):
            return  # drawing the bar can take longer than a step
        self._last = now
        if new:
            self._tasks[phase] = self._bars.add_task(f"{self._name} {phase}", total=event["total"], numbers="")
        numbers = _numbers(event)
        changed = {"numbers": numbers} if numbers else {}
        self._bars.update(self._tasks[phase], completed=event["done"], **changed)


def _numbers(event: Mapping[str, Any]) -> str:
    """Speed and losses, if the event has them."""
    if "losses" not in event:
        return ""
    losses = " ".join(f"{name.partition('/')[2] or name} {value:.4g}" for name, value in event["losses"].items())
    return f"{event['images_per_second']:.1f} images/s, {losses}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
