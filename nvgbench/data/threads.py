"""Work on many files at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from torch.utils.data import get_worker_info

Job = TypeVar("Job")
Done = TypeVar("Done")


def in_threads(work: Callable[[Job], Done], jobs: Sequence[Job]) -> list[Done]:
    """``work`` on every job, in order, by several threads; for work that releases the interpreter lock, such as decoding."""
    # A worker of a data loader is one of several processes already.
    if len(jobs) < 2 or get_worker_info() is not None:
        return [work(job) for job in jobs]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(work, jobs))
