"""A stand-in for CUDA graphs: a replay runs the function again on the buffers it was captured with, as a graph would."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


class FakeGraphs:
    """Counts captures and replays; `fail_next` makes the next capture run out of memory."""

    def __init__(self) -> None:
        self.captures, self.replays, self.fail_next = 0, 0, False

    def capture(
        self, function: Callable[..., tuple[Tensor, ...]], inputs: tuple[Tensor, ...]
    ) -> tuple[Callable[[], None], tuple[Tensor, ...]]:
        if self.fail_next:
            self.fail_next = False
            raise torch.cuda.OutOfMemoryError("no room for the graph")
        self.captures += 1
        outputs = tuple(torch.empty_like(output) for output in function(*inputs))

        def replay() -> None:
            self.replays += 1
            with torch.no_grad():
                for buffer, output in zip(outputs, function(*inputs), strict=True):
                    buffer.copy_(output)

        return replay, outputs
