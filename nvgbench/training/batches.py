"""Moving batches to the device and splitting them.

Shape letters: B batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nvgbench.types import ImageBatch, TokenBatch, Tokens, TokenSequence

AnyBatch = ImageBatch | TokenBatch


def to_device(batch: AnyBatch, device: torch.device) -> AnyBatch:
    """The batch on ``device``; copies to CUDA are asynchronous."""
    if isinstance(batch, ImageBatch):
        return ImageBatch(_move(batch.images_B3HW, device), _move(batch.labels_B, device))
    images = batch.images_B3HW
    return TokenBatch(
        _move_tokens(batch.tokens, device), _move(batch.labels_B, device), None if images is None else _move(images, device)
    )


def split(batch: AnyBatch, size: int | None) -> list[AnyBatch]:
    """Parts of ``size`` images; the whole batch if no size is given or it is not larger."""
    total = len(batch.labels_B)
    if size is None or size >= total:
        return [batch]
    rows = [slice(start, start + size) for start in range(0, total, size)]
    if isinstance(batch, ImageBatch):
        return [ImageBatch(batch.images_B3HW[part], batch.labels_B[part]) for part in rows]
    images = batch.images_B3HW
    return [TokenBatch(batch.tokens[part], batch.labels_B[part], None if images is None else images[part]) for part in rows]


def join_tokens(parts: Sequence[Tokens]) -> Tokens:
    """The tokens of several batches, in order; all of one kind."""
    latents = [part for part in parts if isinstance(part, Tensor)]
    sequences = [part for part in parts if isinstance(part, TokenSequence)]
    return torch.cat(latents) if latents else TokenSequence.join(sequences)


def _move_tokens(tokens: Tokens, device: torch.device) -> Tokens:
    if isinstance(tokens, Tensor):
        return _move(tokens, device)
    structure = None if tokens.structure_BL is None else _move(tokens.structure_BL, device)
    return TokenSequence(tuple(_move(index, device) for index in tokens.indices), structure)


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and not tensor.is_cuda:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
