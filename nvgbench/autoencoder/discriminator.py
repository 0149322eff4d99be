"""Discriminators: heads on frozen DINO features, or a small PatchGAN. Each returns a row of logits per image.

Shape letters: B batch, L patches, C channels, N logits per image, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from nvgbench.autoencoder import dino
from nvgbench.autoencoder.losses import LecamRegularizer
from nvgbench.errors import InputError


def _norm(channels: int) -> nn.GroupNorm:
    """At least 16 channels per group: groups of one channel would hide an image's mean colour."""
    return nn.GroupNorm(max(1, channels // 16), channels)


class PatchDiscriminator(nn.Module):
    """A PatchGAN (Isola et al., 2017): one logit per patch of the image."""

    def __init__(self, channels: int = 64, halvings: int = 3) -> None:
        super().__init__()
        widths = [min(channels * 2**index, 512) for index in range(halvings)]
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        for below, width in pairwise(widths):
            layers += [nn.Conv2d(below, width, 4, stride=2, padding=1), _norm(width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, images_B3HW: Tensor) -> Tensor:
        return self.layers(images_B3HW).flatten(1)


class FeatureHead(nn.Module):
    """Features of one level to a logit per patch; convolutions run along the patches in raster order."""

    def __init__(self, channels: int, kernel: int = 9) -> None:
        super().__init__()
        self.enter = spectral_norm(nn.Conv1d(channels, channels, 1))
        self.mix = spectral_norm(nn.Conv1d(channels, channels, kernel, padding=kernel // 2, padding_mode="circular"))
        self.enter_norm = _norm(channels)
        self.mix_norm = _norm(channels)
        self.judge = spectral_norm(nn.Conv1d(channels, 1, 1))

    def forward(self, features_BLC: Tensor) -> Tensor:
        x_BCL = F.leaky_relu(self.enter_norm(self.enter(features_BLC.transpose(1, 2))), 0.2)
        # A residual branch of equal weight that preserves the variance.
        x_BCL = (x_BCL + F.leaky_relu(self.mix_norm(self.mix(x_BCL)), 0.2)) / 2**0.5
        return self.judge(x_BCL).flatten(1)


class FeatureDiscriminator(nn.Module):
    """One head per level of frozen features; the logits of all levels are concatenated."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(FeatureHead(channels) for _ in range(levels))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return torch.cat([head(level_BLC) for head, level_BLC in zip(self.heads, features, strict=True)], dim=1)


class Adversary(nn.Module):
    """The discriminator with the running statistics of its regulariser, as checkpoints store them.

    Attributes:
        judge: features (or images, for a PatchGAN) to logits ``[B, N]``.
        lecam: regulariser, with running means of the logits.
    """

    def __init__(self, judge: nn.Module) -> None:
        super().__init__()
        self.judge = judge
        self.lecam = LecamRegularizer()

    def forward(self, source: Tensor | Sequence[Tensor]) -> Tensor:
        return self.judge(source)


def build_adversary(mode: Literal["dino", "patch", "auto", "none"], image_size: int) -> tuple[Adversary | None, nn.Module, str]:
    """The discriminator, the frozen network in front of it (the identity for PatchGAN), and a line about them for the record.

    Raises:
        InputError: ``dino`` is required but its weights are not available.
    """
    if mode == "none":
        return None, nn.Identity(), "adversarial loss: none"
    reason = ""
    if mode != "patch":
        try:
            features, note = dino.load_dino()
            heads = FeatureDiscriminator(dino.CHANNELS, len(dino.LEVELS))
            return Adversary(heads), features, f"adversarial loss: {note}"
        except InputError as error:
            if mode == "dino":
                raise
            reason = f", because {error}"
    # The patches of a small image should be smaller than the image.
    halvings = 3 if image_size >= 64 else 2
    return Adversary(PatchDiscriminator(halvings=halvings)), nn.Identity(), f"adversarial loss: PatchGAN{reason}"
