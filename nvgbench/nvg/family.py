"""The NVG family: what `nvgbench.registry` finds. Importing this file does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from nvgbench.config.schema import RunConfig
from nvgbench.interfaces import CostCard, ModelFamily
from nvgbench.nvg.config import GranularityConfig, NvgModelConfig, NvgSamplingConfig
from nvgbench.types import ModelSpec, Tokens, TokenSequence

if TYPE_CHECKING:
    from torch import nn

    from nvgbench.autoencoder.quantization import Quantizer
    from nvgbench.autoencoder.tokenizer import ConvTokenizer
    from nvgbench.nvg.generator import NvgGenerator
    from nvgbench.nvg.image_generator import NvgImageGenerator
    from nvgbench.nvg.objective import NvgObjective
    from nvgbench.nvg.original import NvgOriginal
    from nvgbench.nvg.verification import NvgVerification


class NvgFamily(ModelFamily):
    """Next visual granularity generation."""

    name = "nvg"
    summary = "NVG: structure and content in turn, from one cluster to one a position"
    quantizer_config = GranularityConfig
    model_config = NvgModelConfig
    sampling_config = NvgSamplingConfig
    presets = "nvgbench.nvg.presets"

    @property
    def original(self) -> NvgOriginal:
        """How the published files name and shape their tensors."""
        from nvgbench.nvg.original import NvgOriginal

        return NvgOriginal()

    @property
    def verification(self) -> NvgVerification:
        """The original code's golden numbers, and how to recompute them."""
        from nvgbench.nvg.verification import NvgVerification

        return NvgVerification()

    def build_tokenizer(self, config: RunConfig) -> ConvTokenizer:
        """An untrained multi-granularity tokenizer.

        Raises:
            InputError: the grid's positions cannot be grouped down to one cluster.
        """
        from nvgbench.nvg.tokenizer import build_tokenizer

        return build_tokenizer(config)

    def build_generator(self, config: RunConfig, tokenizer: nn.Module, num_classes: int) -> NvgGenerator:
        """Untrained content and structure generators for that tokenizer's grid and codebook.

        Raises:
            InputError: stages that are no balanced hierarchy, or a head size without room for the rotary axes.
        """
        from nvgbench.nvg.generator import NvgGenerator
        from nvgbench.nvg.stages import StageLayout

        tokenizer = cast("ConvTokenizer", tokenizer)
        return NvgGenerator(
            config.model,
            StageLayout.of_stages(tokenizer.grid, tokenizer.stage_tokens),
            channels=tokenizer.latent_channels,
            codebook_size=tokenizer.codebook_size,
            num_classes=num_classes,
        )

    def prepare(self, generator: nn.Module, tokenizer: nn.Module, tokens: Tokens) -> None:
        """Measure what brings each stage's canvas to unit size; start the token logits at the codes where so configured."""
        from nvgbench.nvg.objective import measure_code_variance, measure_scale_factors

        assert isinstance(tokens, TokenSequence)
        tokenizer, generator = cast("ConvTokenizer", tokenizer), cast("NvgGenerator", generator)
        generator.content.scale_factors.copy_(measure_scale_factors(tokenizer, tokens))
        if generator.starts_at_codes:
            codebook_VC = cast("Quantizer", tokenizer.quantizer).codebook_VC
            generator.content.start_at_codes(codebook_VC, measure_code_variance(codebook_VC, tokens))

    def check_training(self, config: RunConfig) -> None:
        """Refuse at the start what would stop the generator's training after the tokenizer's.

        Raises:
            InputError: the feature alignment is demanded and cannot be had, or there will be no images for it.
        """
        from nvgbench.nvg.alignment_target import find_target

        find_target(config)

    def objective(self, config: RunConfig, tokenizer: nn.Module, generator: nn.Module) -> NvgObjective:
        """Final canvas, tokens and structure flow at all stages; feature alignment where the configuration asks for it.

        Raises:
            InputError: see `check_training`; or the weights to be aligned with are damaged.
        """
        from nvgbench.nvg.alignment_target import load_target
        from nvgbench.nvg.objective import NvgObjective

        tokenizer = cast("ConvTokenizer", tokenizer)
        target, notes = load_target(config, tokenizer.grid)
        return NvgObjective(config.model, tokenizer, cast("NvgGenerator", generator), target, notes)

    def image_generator(
        self, config: RunConfig, tokenizer: nn.Module, generator: nn.Module, spec: ModelSpec
    ) -> NvgImageGenerator:
        """Tokenizer and generators joined."""
        from nvgbench.nvg.image_generator import NvgImageGenerator

        return NvgImageGenerator(cast("ConvTokenizer", tokenizer), cast("NvgGenerator", generator), config.sampling, spec)

    def cost(self, config: RunConfig, num_classes: int) -> CostCard:
        """Parameters and FLOPs from the configuration alone; no memory is taken for the weights.

        Feature alignment is left out: neither the paper's sizes count its projector nor can it be told whether ``auto`` aligns.
        """
        import torch

        from nvgbench.nvg.cost import cost_card

        with torch.device("meta"):
            tokenizer = self.build_tokenizer(config)
            generator = self.build_generator(config, tokenizer, num_classes)
        return cost_card(config, tokenizer, generator)
