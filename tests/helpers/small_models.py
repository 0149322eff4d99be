"""Small models of all families, with weights large enough that every part affects the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.load import build_config
from nvgbench.config.schema import RunConfig
from nvgbench.interfaces import ImageGenerator, ModelFamily
from nvgbench.registry import get_family
from nvgbench.types import ModelSpec, TokenSequence

CLASSES = 5
MODELS = {
    "nvg": {"depth": 2, "head_size": 24},
    "var": {"depth": 2, "heads": 2, "head_size": 8},
    "ar": {"depth": 2, "heads": 2, "head_size": 8, "mlp_multiple": 8, "dropout": 0.0},
}


@dataclass(frozen=True)
class Small:
    """A tiny model and what it was made from."""

    family: ModelFamily
    config: RunConfig
    tokenizer: ConvTokenizer
    generator: nn.Module

    def images(self) -> ImageGenerator:
        spec = ModelSpec(name="small", family=self.family.name, image_size=16, num_classes=CLASSES)
        return self.family.image_generator(self.config, self.tokenizer, self.generator, spec)

    def tokens(self, batch: int = 2) -> TokenSequence:
        generator = torch.Generator().manual_seed(1)
        lengths = self.tokenizer.stage_tokens
        return TokenSequence(tuple(torch.randint(0, 24, (batch, length), generator=generator) for length in lengths))


def small_config(family: str, **sections: dict[str, Any]) -> RunConfig:
    """A 16 px configuration with a 4x4 grid; keyword sections are merged into those of the same name."""
    phase = {"steps": 10, "batch_size": 2, "learning_rate": 1e-3}
    tree: dict[str, Any] = {
        "name": "small",
        "family": family,
        "data": {"source": "shapes", "image_size": 16},
        "tokenizer": {
            "base_channels": 8,
            "channel_multipliers": [1, 2, 2],
            "encoder_blocks": 1,
            "decoder_blocks": 1,
            "latent_channels": 4,
            "codebook_size": 24,
            "quantizer": {"scales": [1, 2, 4]} if family == "var" else {},
        },
        "model": dict(MODELS[family]),
        "train": {"tokenizer": phase, "generator": phase},
    }
    for section, values in sections.items():
        tree[section] = {**tree.get(section, {}), **values}
    return build_config(tree, "test")


def build_small(family: str, **sections: dict[str, Any]) -> Small:
    found, config = get_family(family), small_config(family, **sections)
    torch.manual_seed(0)
    tokenizer = found.build_tokenizer(config).eval()
    generator = found.build_generator(config, tokenizer, CLASSES).eval()
    with torch.no_grad():
        for weight in [*generator.parameters(), *tokenizer.quantizer.parameters()]:
            weight.normal_(std=0.4)
    return Small(found, config, tokenizer, generator)
