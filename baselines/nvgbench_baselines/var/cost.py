"""FLOPs of VAR. No torch."""

from __future__ import annotations

from nvgbench.config.schema import RunConfig
from nvgbench_baselines.cost import TRAINING_PASSES, attention_flops, convolution_flops, decoder_flops


def sampling_flops(config: RunConfig) -> dict[str, int]:
    """One image at the configured settings, with a key-value cache.

    Guidance doubles the transformer's share; the modulation is computed once per image and pass.
    """
    tokens = _stage_tokens(config)
    seen = [sum(tokens[: stage + 1]) for stage in range(len(tokens))]
    attended = sum(attention_flops(new, keys, config.model.width) for new, keys in zip(tokens, seen, strict=True))
    passes = 2 if config.sampling.guidance > 0 else 1
    channels = config.tokenizer.latent_channels
    refined = len(tokens) * convolution_flops(tokens[-1], channels, channels)
    if config.sampling.more_smooth:
        refined += 2 * sum(tokens) * config.tokenizer.codebook_size * channels
    return {
        "transformer": passes * _transformer_flops(config, attended),
        "quantizer": refined,
        "decoder": decoder_flops(config),
    }


def training_flops(config: RunConfig) -> int:
    """Forward and backward pass of the transformer for one tokenized image, all scales at once."""
    length = sum(_stage_tokens(config))
    return TRAINING_PASSES * _transformer_flops(config, attention_flops(length, length, config.model.width))


def _stage_tokens(config: RunConfig) -> tuple[int, ...]:
    return tuple(side * side for side in config.tokenizer.quantizer.sides(config.grid))


def _transformer_flops(config: RunConfig, attended: int) -> int:
    """One pass over all tokens of an image, without guidance; ``attended``: FLOPs of attention per block."""
    model, tokens = config.model, _stage_tokens(config)
    length, width = sum(tokens), model.width
    linear = 2 * length * (4 + 2 * model.mlp_ratio) * width * width
    modulations = 1 if model.shared_modulation else model.depth
    return (
        model.depth * (linear + attended)
        + 2 * (length - tokens[0]) * config.tokenizer.latent_channels * width
        + 2 * (6 * modulations + 2) * width * width
        + 2 * length * width * config.tokenizer.codebook_size
    )
