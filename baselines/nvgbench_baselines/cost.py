"""Parameters and FLOPs (2 x multiply-accumulates) of a model from its configuration alone.

Matrix products, convolutions and attention over all keys (including masked ones) are counted, as in
`nvgbench.profiling.flops.count_flops`; the rest is small.
"""

from __future__ import annotations

from collections.abc import Mapping

from nvgbench.config.schema import RunConfig
from nvgbench.interfaces import CostCard, ModelFamily

# The backward pass computes two products for each one of the forward pass.
TRAINING_PASSES = 3


def cost_card(family: ModelFamily, config: RunConfig, num_classes: int, sampling: Mapping[str, int], training: int) -> CostCard:
    """The cost card with these FLOPs; parameters are counted without memory for the weights."""
    import torch

    with torch.device("meta"):
        tokenizer = family.build_tokenizer(config)
        generator = family.build_generator(config, tokenizer, num_classes)
    parts = {"tokenizer": tokenizer, "transformer": generator}
    return CostCard(
        parameters={name: sum(weight.numel() for weight in part.parameters()) for name, part in parts.items()},
        sampling_flops=sampling,
        training_flops=training,
        layers=config.model.depth,
    )


def attention_flops(queries: int, keys: int, width: int) -> int:
    """Products of queries with keys and of weights with values, for all heads."""
    return 4 * queries * keys * width


def convolution_flops(positions: int, channels_in: int, channels_out: int, side: int = 3) -> int:
    """A convolution with ``positions`` outputs."""
    return 2 * positions * channels_in * channels_out * side * side


def decoder_flops(config: RunConfig) -> int:
    """One image through `nvgbench.autoencoder.decoder.Decoder` and the convolution before it, if any."""
    settings = config.tokenizer
    widths = [settings.base_channels * multiplier for multiplier in settings.channel_multipliers]
    positions, latent = config.grid[0] * config.grid[1], settings.latent_channels
    width = widths[-1]
    total = convolution_flops(positions, latent, width) + 2 * _residual_flops(positions, width, width)
    if settings.quant_convs:
        total += convolution_flops(positions, latent, latent)
    if settings.attention:
        total += (settings.decoder_blocks + 1) * _spatial_attention_flops(positions, widths[-1])
    for level in reversed(range(len(widths))):
        for _ in range(settings.decoder_blocks):
            total += _residual_flops(positions, width, widths[level])
            width = widths[level]
        if level:
            positions *= 4
            total += convolution_flops(positions, width, width)
    return total + convolution_flops(positions, width, 3)


def _residual_flops(positions: int, width_in: int, width_out: int) -> int:
    shortcut = convolution_flops(positions, width_in, width_out, 1) if width_in != width_out else 0
    return convolution_flops(positions, width_in, width_out) + convolution_flops(positions, width_out, width_out) + shortcut


def _spatial_attention_flops(positions: int, width: int) -> int:
    return convolution_flops(positions, width, 4 * width, 1) + attention_flops(positions, positions, width)
