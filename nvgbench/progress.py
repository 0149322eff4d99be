"""How long-running work reports its progress, without knowing of terminals."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Report = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]
"""Called with a description; a context that yields a callable ``(done, total)``, e.g. `nvgbench.cli.progress.counting`."""


@contextmanager
def quiet(_: str) -> Iterator[Callable[[int, int], None]]:
    """Report nothing."""
    yield lambda done, total: None
