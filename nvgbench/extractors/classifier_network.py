"""The network of the classifier and what it is fed. Shape letters: B batch, K classes, H and W pixels, D features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.errors import InputError

CODE_VERSION = 1
"""Increase when network, preprocessing or training change."""
MAX_SIDE = 64
"""Larger images are averaged down to this side before they enter the network."""


class SmallResNet(nn.Module):
    """Stem, then three times (halve and widen, add a convolution's output), global average as features, linear head.

    ``forward`` takes float images in [-1, 1] ``[B, 3, H, W]`` and returns ``(features [B, D], logits [B, K])``, D = 128 at the
    default width.
    """

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = _conv(3, width, stride=1)
        stages, channels = [], width
        for _ in range(3):
            stages += [_conv(channels, 2 * channels, stride=2), _Residual(2 * channels)]
            channels *= 2
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(channels, classes)

    def forward(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        features = self.stages(self.stem(images_B3HW)).mean(dim=(2, 3))
        return features, self.head(features)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = _conv(channels, channels, stride=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def _conv(inputs: int, outputs: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def preprocess(images_B3HW: Tensor) -> Tensor:
    """uint8 images to the network's input: float32 in [-1, 1], larger sides averaged down to 64.

    Raises:
        InputError: not a uint8 batch ``[B, 3, H, W]``.
    """
    if images_B3HW.dtype != torch.uint8 or images_B3HW.ndim != 4 or images_B3HW.shape[1] != 3:
        raise InputError(f"got images of {images_B3HW.dtype}, shape {tuple(images_B3HW.shape)}; expected uint8 [B, 3, H, W]")
    images = images_B3HW.float().div(127.5).sub(1)
    if max(images.shape[2:]) > MAX_SIDE:
        images = F.interpolate(images, size=(MAX_SIDE, MAX_SIDE), mode="area")
    return images.contiguous(memory_format=torch.channels_last)
