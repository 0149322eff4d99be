"""FLOPs of VAR. No torch."""

from __future__ import annotations

import itertools

from nvgbench.config.schema import RunConfig
from nvgbench_baselines.cost import TRAINING_PASSES, attention_flops, convolution_flops, decoder_flops


def sampling_flops(config: RunConfig) -> dict[str, int]:
    """One image at the configured settings.

    Guidance doubles the transformer's share; the modulation is computed once per image and pass.
    """
    tokens, width = _stage_tokens(config), config.model.width
    seen = list(itertools.accumulate(tokens))
    if config.sampling.kv_cache:
        transformer = _transformer_flops(config, sum(map(attention_flops, tokens, seen, itertools.repeat(width))))
    else:
        transformer = sum(_transformer_flops(config, attention_flops(end, end, width), end) for end in seen)
        transformer -= (len(seen) - 1) * _modulation_flops(config)
    passes = 2 if config.sampling.guidance > 0 else 1
    channels = config.tokenizer.latent_channels
    refined = len(tokens) * convolution_flops(tokens[-1], channels, channels)
    if config.sampling.more_smooth:
        refined += 2 * sum(tokens) * config.tokenizer.codebook_size * channels
    return {
        "transformer": passes * transformer,
        "quantizer": refined,
        "decoder": decoder_flops(config),
    }


def training_flops(config: RunConfig) -> int:
    """Forward and backward pass of the transformer for one tokenized image, all scales at once."""
    length = sum(_stage_tokens(config))
    return TRAINING_PASSES * _transformer_flops(config, attention_flops(length, length, config.model.width))


def _stage_tokens(config: RunConfig) -> tuple[int, ...]:
    return tuple(side * side for side in config.tokenizer.quantizer.sides(config.grid))


def _transformer_flops(config: RunConfig, attended: int, length: int | None = None) -> int:
    """One pass without guidance over the first ``length`` tokens of an image, or all; ``attended``: attention per block."""
    model, tokens = config.model, _stage_tokens(config)
    length, width = length or sum(tokens), model.width
    linear = 2 * length * (4 + 2 * model.mlp_ratio) * width * width
    return (
        model.depth * (linear + attended)
        + 2 * (length - tokens[0]) * config.tokenizer.latent_channels * width
        + _modulation_flops(config)
        + 2 * length * width * config.tokenizer.codebook_size
    )


def _modulation_flops(config: RunConfig) -> int:
    modulations = 1 if config.model.shared_modulation else config.model.depth
    return 2 * (6 * modulations + 2) * config.model.width**2
