"""The AR family: what `nvgbench.registry` finds. Importing this file does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from nvgbench.config.schema import RunConfig
from nvgbench.interfaces import CostCard, ModelFamily
from nvgbench.types import ModelSpec
from nvgbench_baselines.ar.config import ArModelConfig, ArSamplingConfig, FlatConfig

if TYPE_CHECKING:
    from torch import nn

    from nvgbench.autoencoder.tokenizer import ConvTokenizer
    from nvgbench_baselines.ar.objective import ArObjective
    from nvgbench_baselines.ar.sampler import ArImageGenerator
    from nvgbench_baselines.ar.transformer import ArTransformer


class ArFamily(ModelFamily):
    """Next-token prediction in raster order."""

    name = "ar"
    summary = "AR: next-token prediction in raster order (LlamaGen's transformer)"
    unconditional = True
    quantizer_config = FlatConfig
    model_config = ArModelConfig
    sampling_config = ArSamplingConfig
    presets = "nvgbench_baselines.ar.presets"
    tokenizers = "nvgbench_baselines.ar.tokenizers"

    def build_tokenizer(self, config: RunConfig) -> ConvTokenizer:
        """An untrained tokenizer with one token per position."""
        from nvgbench.autoencoder.tokenizer import ConvTokenizer
        from nvgbench_baselines.ar.quantizer import FlatQuantizer

        return ConvTokenizer.of(config, FlatQuantizer)

    def build_generator(self, config: RunConfig, tokenizer: nn.Module, num_classes: int) -> ArTransformer:
        """An untrained transformer for that tokenizer's grid and codebook."""
        from nvgbench_baselines.ar.transformer import ArTransformer

        tokenizer = cast("ConvTokenizer", tokenizer)
        return ArTransformer(config.model, grid=tokenizer.grid, codebook_size=tokenizer.codebook_size, num_classes=num_classes)

    def objective(self, config: RunConfig, tokenizer: nn.Module, generator: nn.Module) -> ArObjective:
        """Cross-entropy of all tokens."""
        from nvgbench_baselines.ar.objective import ArObjective

        return ArObjective(cast("ArTransformer", generator))

    def image_generator(
        self, config: RunConfig, tokenizer: nn.Module, generator: nn.Module, spec: ModelSpec
    ) -> ArImageGenerator:
        """Tokenizer and transformer joined."""
        from nvgbench_baselines.ar.sampler import ArImageGenerator

        return ArImageGenerator(cast("ConvTokenizer", tokenizer), cast("ArTransformer", generator), config.sampling, spec)

    def cost(self, config: RunConfig, num_classes: int) -> CostCard:
        """Parameters and FLOPs from the configuration alone; see `nvgbench_baselines.cost`."""
        from nvgbench_baselines.ar.cost import sampling_flops, training_flops
        from nvgbench_baselines.cost import cost_card

        return cost_card(self, config, num_classes, sampling_flops(config), training_flops(config))
