"""What makes training faster or smaller without changing what is trained: compiled blocks, recomputed activations."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nvgbench.config.schema import TrainConfig
from nvgbench.device import resolve_compile
from nvgbench.interfaces import CompilableBlocks


def accelerate(generator: nn.Module, config: TrainConfig, device: torch.device) -> list[str]:
    """Prepare a generator for training as configured; returns what the user should know."""
    notes = []
    if resolve_compile(config.compile, device):
        if isinstance(generator, CompilableBlocks):
            generator.compile_blocks()
        else:
            for block in _blocks(generator):
                block.compile()
        notes.append("blocks are compiled in the first step, which takes up to a minute")
    if config.activation_checkpointing:
        for block in _blocks(generator):
            block.forward = functools.partial(checkpoint, block.forward, use_reentrant=False)
    return notes


def _blocks(generator: nn.Module) -> Iterator[nn.Module]:
    """The repeated blocks: families call other methods of their generators than ``forward``."""
    blocks = [block for module in generator.modules() if isinstance(module, nn.ModuleList) for block in module]
    return iter(blocks or [generator])
