"""A model family: every token is drawn on its own, given the class. Importing this file does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from nvgbench.interfaces import ModelFamily


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The preset's section ``[model]``."""

    smoothing: float = 0.0
    """Label smoothing of the cross-entropy."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """The preset's section ``[sampling]``."""

    temperature: float = 1.0


class Independent(ModelFamily):
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

    def objective(self, config, tokenizer, generator):
        from independent.model import TableObjective

        return TableObjective(generator, config.model.smoothing)

    def image_generator(self, config, tokenizer, generator, spec):
        from independent.model import TableImageGenerator

        return TableImageGenerator(tokenizer, generator, config.sampling, spec)


FAMILY = Independent()
