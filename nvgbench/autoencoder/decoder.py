"""The convolutional decoder of both papers' tokenizers (VQGAN's): the encoder in reverse.

Shape letters: B batch, C channels, H and W pixels, h and w the latent grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.autoencoder.encoder import Level, Middle, Upsample, channels_last, group_norm


class Decoder(nn.Module):
    """Latents ``[B, C, h, w]`` to images ``[B, 3, H, W]``, not clamped. Level 0 is full resolution and comes last."""

    def __init__(
        self, base_channels: int, multipliers: Sequence[int], blocks: int, latent_channels: int, *, attention: bool
    ) -> None:
        super().__init__()
        widths = [base_channels * multiplier for multiplier in multipliers]
        last = len(widths) - 1
        self.stem = nn.Conv2d(latent_channels, widths[-1], 3, padding=1)
        self.middle = Middle(widths[-1], attention=attention)
        self.levels = nn.ModuleList(
            Level(
                widths[min(level + 1, last)],
                width,
                blocks,
                attention=attention and level == last,
                resample=Upsample(width) if level else None,
            )
            for level, width in enumerate(widths)
        )
        self.norm_out = group_norm(base_channels * multipliers[0])
        self.head = nn.Conv2d(base_channels * multipliers[0], 3, 3, padding=1)

    def forward(self, latent_BChw: Tensor) -> Tensor:
        x_BCHW = self.middle(self.stem(channels_last(latent_BChw)))
        for level in reversed(self.levels):
            x_BCHW = level(x_BCHW)
        return self.head(F.silu(self.norm_out(x_BCHW))).contiguous()
