"""A model family: every token is drawn on its own, given the class. Importing this file does not import torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The preset's section ``[model]``."""

    smoothing: float = 0.0
    """Label smoothing of the cross-entropy."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """The preset's section ``[sampling]``."""

    temperature: float = 1.0


class Independent:
    """Implements `nvgbench.interfaces.ModelFamily`."""

    name = "independent"
    summary = "every token drawn on its own, given the class"
    presets = "independent"  # the package that holds *.toml
    model_config = ModelConfig
    sampling_config = SamplingConfig

    @property
    def quantizer_config(self):
        from nvgbench_baselines.ar.config import FlatConfig

        return FlatConfig

    def build_tokenizer(self, config):
        from nvgbench_baselines.ar.quantizer import FlatQuantizer

        from nvgbench.autoencoder.tokenizer import ConvTokenizer

        return ConvTokenizer.of(config, FlatQuantizer)

    def build_generator(self, config, tokenizer, num_classes):
        from independent.model import LogitTable

        return LogitTable(num_classes, tokenizer.stage_tokens[0], tokenizer.codebook_size)

    def prepare(self, generator, tokenizer, tokens):
        pass

    def objective(self, config, tokenizer, generator):
        from independent.model import TableObjective

        return TableObjective(generator, config.model.smoothing)

    def image_generator(self, config, tokenizer, generator, spec):
        from independent.model import TableImageGenerator

        return TableImageGenerator(tokenizer, generator, config.sampling, spec)

    def cost(self, config, num_classes):
        from nvgbench_baselines.cost import cost_card, decoder_flops

        return cost_card(self, config, num_classes, {"decoder": decoder_flops(config)}, 0)


FAMILY = Independent()
