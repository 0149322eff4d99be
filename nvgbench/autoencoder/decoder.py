"""The convolutional decoder of both papers' tokenizers (VQGAN's), a mirrored encoder.

Shape letters: B batch, C channels, H and W pixels, h and w the latent grid.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.autoencoder.encoder import Level, Middle, Upsample, channels_last, group_norm
from nvgbench.config.schema import TokenizerConfig


class Decoder(nn.Module):
    """Latents ``[B, C, h, w]`` to images ``[B, 3, H, W]``, not clamped. Level 0 is full resolution and comes last."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths = [config.base_channels * multiplier for multiplier in config.channel_multipliers]
        last = len(widths) - 1
        self.stem = nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1)
        self.middle = Middle(widths[-1], config.norm_groups, attention=config.attention)
        self.levels = nn.ModuleList(
            Level(
                widths[min(level + 1, last)],
                width,
                config.decoder_blocks,
                config.norm_groups,
                attention=config.attention and level == last,
                resample=Upsample(width) if level else None,
            )
            for level, width in enumerate(widths)
        )
        self.norm_out = group_norm(widths[0], config.norm_groups)
        self.head = nn.Conv2d(widths[0], 3, 3, padding=1)

    def forward(self, latent_BChw: Tensor) -> Tensor:
        x_BCHW = self.middle(self.stem(channels_last(latent_BChw)))
        for level in reversed(self.levels):
            x_BCHW = level(x_BCHW)
        return self.head(F.silu(self.norm_out(x_BCHW))).contiguous()
