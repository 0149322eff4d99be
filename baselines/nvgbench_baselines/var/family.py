"""The VAR family: what `nvgbench.registry` finds. Importing this file does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from nvgbench.config.schema import RunConfig
from nvgbench.interfaces import CostCard, ModelFamily
from nvgbench.types import ModelSpec
from nvgbench_baselines.var.config import ScaleConfig, VarModelConfig, VarSamplingConfig

if TYPE_CHECKING:
    from torch import nn

    from nvgbench.autoencoder.tokenizer import ConvTokenizer
    from nvgbench_baselines.var.objective import VarObjective
    from nvgbench_baselines.var.original import VarOriginal
    from nvgbench_baselines.var.sampler import VarImageGenerator
    from nvgbench_baselines.var.transformer import VarTransformer
    from nvgbench_baselines.var.verification import VarVerification


class VarFamily(ModelFamily):
    """Next-scale prediction."""

    name = "var"
    summary = "VAR: next-scale prediction over token maps of growing size"
    unconditional = True
    quantizer_config = ScaleConfig
    model_config = VarModelConfig
    sampling_config = VarSamplingConfig
    presets = "nvgbench_baselines.var.presets"
    tokenizers = "nvgbench_baselines.var.tokenizers"

    @property
    def original(self) -> VarOriginal:
        """Names and shapes of the published files."""
        from nvgbench_baselines.var.original import VarOriginal

        return VarOriginal()

    @property
    def verification(self) -> VarVerification:
        """Golden numbers of the original code, and how to recompute them."""
        from nvgbench_baselines.var.verification import VarVerification

        return VarVerification()

    def build_tokenizer(self, config: RunConfig) -> ConvTokenizer:
        """An untrained multi-scale tokenizer.

        Raises:
            InputError: the scales do not fit the grid.
        """
        from nvgbench.autoencoder.tokenizer import ConvTokenizer
        from nvgbench_baselines.var.quantizer import ScaleQuantizer

        return ConvTokenizer.of(config, ScaleQuantizer)

    def build_generator(self, config: RunConfig, tokenizer: nn.Module, num_classes: int) -> VarTransformer:
        """An untrained transformer for that tokenizer's scales and codebook."""
        from nvgbench_baselines.var.transformer import VarTransformer

        tokenizer = cast("ConvTokenizer", tokenizer)
        return VarTransformer(
            config.model,
            scales=config.tokenizer.quantizer.sides(tokenizer.grid),
            channels=tokenizer.latent_channels,
            codebook_size=tokenizer.codebook_size,
            num_classes=num_classes,
        )

    def objective(self, config: RunConfig, tokenizer: nn.Module, generator: nn.Module) -> VarObjective:
        """Cross-entropy of all tokens."""
        from nvgbench_baselines.var.objective import VarObjective
        from nvgbench_baselines.var.quantizer import ScaleQuantizer

        return VarObjective(cast(ScaleQuantizer, tokenizer.quantizer), cast("VarTransformer", generator))

    def image_generator(
        self, config: RunConfig, tokenizer: nn.Module, generator: nn.Module, spec: ModelSpec
    ) -> VarImageGenerator:
        """Tokenizer and transformer joined."""
        from nvgbench_baselines.var.sampler import VarImageGenerator

        return VarImageGenerator(cast("ConvTokenizer", tokenizer), cast("VarTransformer", generator), config.sampling, spec)

    def cost(self, config: RunConfig, num_classes: int) -> CostCard:
        """Parameters and FLOPs from the configuration alone; see `nvgbench_baselines.cost`."""
        from nvgbench_baselines.cost import cost_card
        from nvgbench_baselines.var.cost import sampling_flops, training_flops

        return cost_card(self, config, num_classes, sampling_flops(config), training_flops(config))
