"""Batches on their way into the loop: moved to the device, cut into parts.

Shape letters: B batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nvgbench.types import ImageBatch, TokenBatch, TokenSequence

AnyBatch = ImageBatch | TokenBatch


def to_device(batch: AnyBatch, device: torch.device) -> AnyBatch:
    """The batch on ``device``; a copy to a CUDA device does not wait for it."""
    if isinstance(batch, ImageBatch):
        return ImageBatch(_move(batch.images_B3HW, device), _move(batch.labels_B, device))
    structure = batch.tokens.structure_BL
    tokens = TokenSequence(
        tuple(_move(index, device) for index in batch.tokens.indices), None if structure is None else _move(structure, device)
    )
    images = batch.images_B3HW
    return TokenBatch(tokens, _move(batch.labels_B, device), None if images is None else _move(images, device))


def split(batch: AnyBatch, size: int | None) -> list[AnyBatch]:
    """Parts of ``size`` images; the batch itself where no size is given or it is no larger than that."""
    total = len(batch.labels_B)
    if size is None or size >= total:
        return [batch]
    rows = [slice(start, start + size) for start in range(0, total, size)]
    if isinstance(batch, ImageBatch):
        return [ImageBatch(batch.images_B3HW[part], batch.labels_B[part]) for part in rows]
    images = batch.images_B3HW
    return [TokenBatch(batch.tokens[part], batch.labels_B[part], None if images is None else images[part]) for part in rows]


def _move(tensor: Tensor, device: torch.device) -> Tensor:
    if device.type == "cuda" and not tensor.is_cuda:
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
