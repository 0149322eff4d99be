"""Work on many files at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from torch.utils.data import get_worker_info

Job = TypeVar("Job")
Done = TypeVar("Done")
_BATCHES_PER_THREAD = 8


def in_threads(work: Callable[[Job], Done], jobs: Sequence[Job]) -> list[Done]:
    """``work`` on every job, in order, by several threads; for work that releases the interpreter lock, such as decoding."""
    # A worker of a data loader is one of several processes already.
    if len(jobs) < 2 or get_worker_info() is not None:
        return [work(job) for job in jobs]
    threads = min(8, os.cpu_count() or 1)
    # Handing over single jobs costs more than hashing a small file does.
    batch = max(1, len(jobs) // (_BATCHES_PER_THREAD * threads))
    batches = [jobs[start : start + batch] for start in range(0, len(jobs), batch)]
    with ThreadPoolExecutor(threads) as pool:
        return [done for part in pool.map(lambda part: [work(job) for job in part], batches) for done in part]
