"""FLOPs of the raster model. No torch."""

from __future__ import annotations

from nvgbench.config.schema import RunConfig
from nvgbench_baselines.cost import TRAINING_PASSES, attention_flops, decoder_flops


def sampling_flops(config: RunConfig) -> dict[str, int]:
    """One image at the configured settings, with a key-value cache; guidance doubles the transformer's share."""
    length = config.grid[0] * config.grid[1]
    attended = attention_flops(1, length * (length + 1) // 2, config.model.width)
    passes = 1 if config.sampling.guidance == 1.0 else 2
    return {"transformer": passes * _transformer_flops(config, attended), "decoder": decoder_flops(config)}


def training_flops(config: RunConfig) -> int:
    """Forward and backward pass of the transformer for one tokenized image."""
    length = config.grid[0] * config.grid[1]
    return TRAINING_PASSES * _transformer_flops(config, attention_flops(length, length, config.model.width))


def _transformer_flops(config: RunConfig, attended: int) -> int:
    """One pass over all tokens of an image, without guidance; ``attended``: FLOPs of attention per block."""
    model, length = config.model, config.grid[0] * config.grid[1]
    linear = 2 * length * (4 * model.width**2 + 3 * model.width * model.hidden)
    return model.depth * (linear + attended) + 2 * length * model.width * config.tokenizer.codebook_size
