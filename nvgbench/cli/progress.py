"""Progress of long work: a bar on a terminal, occasional lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nvgbench.progress import Report
    from nvgbench.types import Share


@contextmanager
def counting(description: str, unit: str = "images") -> Iterator[Callable[[int, int], None]]:
    """Yield a callable ``(done, total)`` that shows progress, speed and remaining time."""
    if sys.stderr.isatty():
        with _bar(description, unit) as update:
            yield update
    else:
        yield _lines(description, unit)


def of_first(share: Share) -> Report:
    """`counting` in the first of several processes, silence in the others."""
    from nvgbench.progress import quiet

    return counting if share.is_first else quiet


def tell_compilation() -> None:
    """Print how long torch.compile took, if it was used."""
    from nvgbench.device import compilation_seconds

    if seconds := compilation_seconds():
        print(f"compilation took {seconds:.1f} s", file=sys.stderr, flush=True)


@contextmanager
def _bar(description: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def _lines(description: str, unit: str, every: float = 15.0) -> Callable[[int, int], None]:
    began, first, last = time.monotonic(), -1, time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal first, last
        now = time.monotonic()
        if first < 0:
            first = done
        if done < total and now - last < every:
            return
        last = now
        rate = (done - first) / max(now - began, 1e-9)
        speed = f", {rate:.1f} {unit}/s" if rate > 0 else ""  # unknown after a single update
        left = f", {(total - done) / rate:.0f} s left" if rate > 0 and done < total else ""
        print(f"{description}: {done}/{total} {unit}{speed}{left}", file=sys.stderr, flush=True)

    return update
