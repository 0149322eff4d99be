"""Discriminators: heads on frozen DINO features, or a small PatchGAN. Each gives a row of logits an image.

Shape letters: B batch, L patches, C channels, N logits of an image, H and W pixels.
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
    """Groups of 16 channels at least: with one channel a group, an image's mean colour could not be judged."""
    return nn.GroupNorm(max(1, channels // 16), channels)


class PatchDiscriminator(nn.Module):
    """A PatchGAN (Isola et al., 2017): each logit judges one patch of the image."""

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
    """Features of one level to a logit a patch; the convolutions run along the patches in raster order."""

    def __init__(self, channels: int, kernel: int = 9) -> None:
        super().__init__()
        self.enter = spectral_norm(nn.Conv1d(channels, channels, 1))
        self.mix = spectral_norm(nn.Conv1d(channels, channels, kernel, padding=kernel // 2, padding_mode="circular"))
        self.enter_norm = _norm(channels)
        self.mix_norm = _norm(channels)
        self.judge = spectral_norm(nn.Conv1d(channels, 1, 1))

    def forward(self, features_BLC: Tensor) -> Tensor:
        x_BCL = F.leaky_relu(self.enter_norm(self.enter(features_BLC.transpose(1, 2))), 0.2)
        # A residual branch of equal weight, with the variance kept.
        x_BCL = (x_BCL + F.leaky_relu(self.mix_norm(self.mix(x_BCL)), 0.2)) / 2**0.5
        return self.judge(x_BCL).flatten(1)


class FeatureDiscriminator(nn.Module):
    """One head for each level of frozen features; the logits of all levels side by side."""

    def __init__(self, channels: int, levels: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(FeatureHead(channels) for _ in range(levels))

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        return torch.cat([head(level_BLC) for head, level_BLC in zip(self.heads, features, strict=True)], dim=1)


class Adversary(nn.Module):
    """The trained half of the adversarial game, with its running statistics: what a checkpoint has to hold of it.

    Attributes:
        judge: features (or images, where there is no feature network) to logits ``[B, N]``.
        lecam: running means of the logits and the regulariser made from them.
    """

    def __init__(self, judge: nn.Module) -> None:
        super().__init__()
        self.judge = judge
        self.lecam = LecamRegularizer()

    def forward(self, source: Tensor | Sequence[Tensor]) -> Tensor:
        return self.judge(source)


def build_adversary(mode: Literal["dino", "patch", "auto", "none"], image_size: int) -> tuple[Adversary | None, nn.Module, str]:
    """The discriminator, the frozen network in front of it (the identity for PatchGAN), and one line on what they are.

    Raises:
        InputError: ``dino`` was demanded and its weights cannot be had.
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
    # Patches of a small image are to be smaller than the image.
    halvings = 3 if image_size >= 64 else 2
    return Adversary(PatchDiscriminator(halvings=halvings)), nn.Identity(), f"adversarial loss: PatchGAN{reason}"
