"""Differentiable augmentation of the discriminator's inputs (DiffAugment, Zhao et al., 2020).

Shape letters: B batch, H and W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(images_B3HW: Tensor, rng: torch.Generator, *, shift: float = 0.125, cutout: float = 0.2) -> Tensor:
    """Colour changes, translation and cutout, drawn per image; gradients pass through.

    Args:
        images_B3HW: images in [-1, 1]; the result may slightly exceed that range.
        rng: random source.
        shift: largest translation, as a fraction of the side; padded with 0.
        cutout: side of the square hole, as a fraction of the image's.
    """
    draws_7B = torch.rand(7, len(images_B3HW), generator=rng, device=rng.device).to(images_B3HW.device)
    brightness, saturation, contrast, down, right, top, left = draws_7B
    return _cut(_translate(_colour(images_B3HW, brightness, saturation, contrast), down, right, shift), top, left, cutout)


def _colour(images_B3HW: Tensor, brightness_B: Tensor, saturation_B: Tensor, contrast_B: Tensor) -> Tensor:
    def shaped(values_B: Tensor) -> Tensor:
        return values_B.view(-1, 1, 1, 1).to(images_B3HW.dtype)

    images_B3HW = images_B3HW + shaped(brightness_B - 0.5)
    grey_B1HW = images_B3HW.mean(1, keepdim=True)
    images_B3HW = grey_B1HW + (images_B3HW - grey_B1HW) * shaped(2 * saturation_B)
    mean_B111 = images_B3HW.mean((1, 2, 3), keepdim=True)
    return mean_B111 + (images_B3HW - mean_B111) * shaped(contrast_B + 0.5)


def _translate(images_B3HW: Tensor, down_B: Tensor, right_B: Tensor, shift: float) -> Tensor:
    height, width = images_B3HW.shape[2:]
    most = max(1, round(shift * height)), max(1, round(shift * width))
    padded = F.pad(images_B3HW, (most[1], most[1], most[0], most[0]))
    rows_BH = _offsets(down_B, most[0], height)[:, None, :, None].expand(-1, 3, -1, padded.shape[3])
    columns_BW = _offsets(right_B, most[1], width)[:, None, None, :].expand(-1, 3, height, -1)
    return padded.gather(2, rows_BH).gather(3, columns_BW)


def _offsets(draws_B: Tensor, most: int, length: int) -> Tensor:
    start_B = (draws_B * (2 * most + 1)).long().clamp_max(2 * most)
    return start_B[:, None] + torch.arange(length, device=draws_B.device)


def _cut(images_B3HW: Tensor, top_B: Tensor, left_B: Tensor, cutout: float) -> Tensor:
    height, width = images_B3HW.shape[2:]
    hole_BHW = _inside(top_B, height, cutout)[:, :, None] & _inside(left_B, width, cutout)[:, None, :]
    return images_B3HW.masked_fill(hole_BHW[:, None], 0.0)


def _inside(draws_B: Tensor, length: int, cutout: float) -> Tensor:
    """Which of ``length`` positions the hole covers; its centre may be anywhere."""
    size = round(cutout * length)
    start_B = (draws_B * (length + 1)).long() - size // 2
    index_L = torch.arange(length, device=draws_B.device)
    return (index_L >= start_B[:, None]) & (index_L < start_B[:, None] + size)
