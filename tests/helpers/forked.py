"""New processes that are forked with their imports done, so that each starts at once."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

_IMPORTED = (
    "nvgbench.training.run",
    "nvgbench.autoencoder.objective",
    "nvgbench.nvg.objective",
    "nvgbench.nvg.generator",
    "nvgbench.evaluation.evaluate",
    "nvgbench.data.shapes",
    "scipy.linalg",
    "torch.distributed.fsdp",
    "torch.distributed.checkpoint",
    "torch._dynamo",  # imported by the first step of any optimizer, which takes a second
)


def forked() -> ForkServerContext:
    """The context whose ``Process`` does that. All tests share one server, so its imports are those of all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    return context
