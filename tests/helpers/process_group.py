"""Several processes of one machine that train together, as torchrun would start them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from tests.helpers.forked import forked


def environments(count: int) -> list[dict[str, str]]:
    """The environment variables of each of ``count`` processes."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = str(listener.getsockname()[1])
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def run_together(count: int, work: Callable[..., None], *arguments: Any) -> None:
    """Call ``work`` in ``count`` new processes, and fail if one of them fails. A single one gets no process group."""
    processes = [forked().Process(target=_call, args=(place, work, arguments)) for place in environments(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * count


def _call(environment: dict[str, str], work: Callable[..., None], arguments: tuple) -> None:
    import torch

    os.environ.update(environment)
    torch.set_num_threads(1)
    work(*arguments)
