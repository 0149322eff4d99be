"""The convolutional encoder of both papers' tokenizers (VQGAN's), and the blocks that it shares with the decoder.

Two published layouts are special cases: NVG's (no attention) and VAR's (self-attention at the lowest resolution). Level 0 is
full resolution in both encoder and decoder.

Shape letters: B batch, C channels, H and W pixels, h and w the latent grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.config.schema import TokenizerConfig


def group_norm(channels: int, groups: int) -> nn.GroupNorm:
    """GroupNorm with ``groups`` groups, or with the largest divisor of ``channels`` below that."""
    divisor = next(count for count in range(min(groups, channels), 0, -1) if channels % count == 0)
    return nn.GroupNorm(divisor, channels, eps=1e-6)


def channels_last(x_BCHW: Tensor) -> Tensor:
    """The memory format in which convolutions are fastest: by a tenth on CPUs, by more on tensor cores."""
    return x_BCHW.contiguous(memory_format=torch.channels_last)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each after GroupNorm and swish, with a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, groups: int) -> None:
        super().__init__()
        self.norm1 = group_norm(channels_in, groups)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = group_norm(channels_out, groups)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.conv1(F.silu(self.norm1(x_BCHW)))
        y_BCHW = self.conv2(F.silu(self.norm2(y_BCHW)))
        return self.shortcut(x_BCHW) + y_BCHW


class SpatialAttention(nn.Module):
    """Residual self-attention with one head over all positions."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        query, key, value = self.qkv(self.norm(x_BCHW)).flatten(2).transpose(1, 2).chunk(3, dim=2)
        mixed_BLC = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        return x_BCHW + self.proj(mixed_BLC.transpose(1, 2).reshape(x_BCHW.shape))


class Downsample(nn.Module):
    """Halve the resolution: pad right and bottom by one, 3x3 convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(F.pad(x_BCHW, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double the resolution: nearest neighbour, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.conv(F.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The residual blocks of one resolution, each followed by attention if ``attention`` is set, then a resampler."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        blocks: int,
        groups: int,
        *,
        attention: bool,
        resample: nn.Module | None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResidualBlock(channels_in if index == 0 else channels_out, channels_out, groups) for index in range(blocks)
        )
        self.attentions = nn.ModuleList(SpatialAttention(channels_out, groups) for _ in range(blocks if attention else 0))
        self.resample = resample if resample is not None else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        for index, block in enumerate(self.blocks):
            x_BCHW = block(x_BCHW)
            if len(self.attentions):
                x_BCHW = self.attentions[index](x_BCHW)
        return self.resample(x_BCHW)


class Middle(nn.Module):
    """Two residual blocks at the lowest resolution, with attention in between if ``attention`` is set."""

    def __init__(self, channels: int, groups: int, *, attention: bool) -> None:
        super().__init__()
        self.block1 = ResidualBlock(channels, channels, groups)
        self.attention = SpatialAttention(channels, groups) if attention else nn.Identity()
        self.block2 = ResidualBlock(channels, channels, groups)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.block2(self.attention(self.block1(x_BCHW)))


class Encoder(nn.Module):
    """Images ``[B, 3, H, W]`` in [-1, 1] to latents ``[B, C, h, w]``, downsampled by 2^(levels - 1)."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        widths = [config.base_channels * multiplier for multiplier in config.channel_multipliers]
        last = len(widths) - 1
        self.stem = nn.Conv2d(3, config.base_channels, 3, padding=1)
        self.levels = nn.ModuleList(
            Level(
                widths[level - 1] if level else config.base_channels,
                width,
                config.encoder_blocks,
                config.norm_groups,
                attention=config.attention and level == last,
                resample=Downsample(width) if level < last else None,
            )
            for level, width in enumerate(widths)
        )
        self.middle = Middle(widths[-1], config.norm_groups, attention=config.attention)
        self.norm_out = group_norm(widths[-1], config.norm_groups)
        self.head = nn.Conv2d(widths[-1], config.latent_channels, 3, padding=1)

    def forward(self, images_B3HW: Tensor) -> Tensor:
        x_BCHW = self.stem(channels_last(images_B3HW))
        for level in self.levels:
            x_BCHW = level(x_BCHW)
        return self.head(F.silu(self.norm_out(self.middle(x_BCHW)))).contiguous()
