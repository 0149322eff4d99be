"""VAR's published files: their contents, and the conversion to and from our models.

Shape letters: L tokens of all scales, S scales, V codebook size, D width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.interfaces import HubFile, OriginalSizes
from nvgbench.weights.fit import check_codebooks
from nvgbench_baselines.var.checkpoint import DERIVED, tokenizer_names, transformer_from_published, transformer_to_published
from nvgbench_baselines.var.config import DEFAULT_SCALES, ScaleConfig

_PRESET_DEPTHS = (12, 16, 20, 24, 30)
_HEAD_SIZE = 64
_REPOSITORY = "FoundationVision/var"
_TERMS = "MIT licence"


class VarOriginal:
    """FoundationVision/VAR; implements `nvgbench.interfaces.OriginalProject`."""

    title = "VAR"
    suffix = ".pth"
    container: str | None = None
    hub: Mapping[str, HubFile] = {
        "vae_ch160v4096z32.pth": HubFile(repository=_REPOSITORY, part="tokenizer", terms=_TERMS),
        **{
            f"var_d{depth}.pth": HubFile(repository=_REPOSITORY, part="generator", terms=_TERMS)
            for depth in (16, 20, 24, 30, 36)
        },
    }
    tokenizer_inside: str | None = None

    def part(self, keys: Collection[str]) -> Literal["tokenizer", "generator"] | None:
        if "word_embed.weight" in keys:
            return "generator"
        return "tokenizer" if "encoder.conv_in.weight" in keys else None

    def prefixes(self, part: str) -> tuple[str, str | None]:
        return "", None

    def is_unused(self, part: str, name: str) -> bool:
        return name.split(".")[-1] in DERIVED

    def sizes(self, generator: Mapping[str, Tensor] | None, tokenizer: Mapping[str, Tensor] | None) -> OriginalSizes:
        settings: dict[str, Any] = {}
        if tokenizer is not None:
            phi_convs = _phi_convs(tokenizer)
            names = tokenizer_names(ScaleConfig(phi_convs=phi_convs))
            settings |= {f"tokenizer.{key}": value for key, value in names.settings(tokenizer).items()}
            settings["tokenizer.quantizer.phi_convs"] = phi_convs
        if generator is None:
            return OriginalSizes(preset="var-d16", settings=settings)
        model, scales, codebook, classes = _generator_sizes(generator)
        settings |= model
        if tokenizer is not None:
            check_codebooks(codebook, tuple(tokenizer["quantize.embedding.weight"].shape))
            downsampling = 2 ** (len(settings["tokenizer.channel_multipliers"]) - 1)
            settings["data.image_size"] = scales[-1] * downsampling
        if scales != DEFAULT_SCALES.get(scales[-1]):
            settings["tokenizer.quantizer.scales"] = list(scales)
        depth = model["model.depth"]
        preset = f"var-d{min(_PRESET_DEPTHS, key=lambda known: abs(known - depth))}"
        return OriginalSizes(preset=preset, settings=settings, classes=classes)

    def from_original(
        self, part: str, given: Mapping[str, Tensor], own: Mapping[str, Tensor], config: RunConfig
    ) -> dict[str, Tensor]:
        if part == "generator":
            return transformer_from_published(given, own)
        return tokenizer_names(config.tokenizer.quantizer).from_published(given, own)

    def to_original(self, part: str, own: Mapping[str, Tensor], config: RunConfig) -> dict[str, Tensor]:
        if part == "generator":
            return transformer_to_published(own)
        return tokenizer_names(config.tokenizer.quantizer).to_published(own)

    def derived(self, part: str, config: RunConfig) -> dict[str, Tensor]:
        """Scale of each token, attention mask of training, zero biases of keys, zero counters of code use."""
        scales = config.tokenizer.quantizer.sides(config.grid)
        if part == "tokenizer":
            return {"quantize.ema_vocab_hit_SV": torch.zeros(len(scales), config.tokenizer.codebook_size)}
        scale_L = torch.cat([torch.full((side * side,), index) for index, side in enumerate(scales)])
        mask_LL = torch.zeros(len(scale_L), len(scale_L)).masked_fill(scale_L[:, None] < scale_L[None, :], -torch.inf)
        biases = {f"blocks.{block}.attn.zero_k_bias": torch.zeros(config.model.width) for block in range(config.model.depth)}
        return {"lvl_1L": scale_L[None], "attn_bias_for_masking": mask_LL[None, None], **biases}


def _phi_convs(tokenizer: Mapping[str, Tensor]) -> int:
    """Number of convolutions that the scales share, from their names; 0: one per scale."""
    shared = {name.split(".")[3] for name in tokenizer if name.startswith("quantize.quant_resi.qresi_ls.")}
    if shared:
        return len(shared)
    return 1 if "quantize.quant_resi.qresi.weight" in tokenizer else 0


def _generator_sizes(generator: Mapping[str, Tensor]) -> tuple[dict[str, Any], tuple[int, ...], tuple[int, int], int]:
    """Settings of the model, sides of the scales, codebook (codes, channels), classes."""
    try:
        width, channels = generator["word_embed.weight"].shape
        codes, length = len(generator["head.weight"]), generator["pos_1LC"].shape[1]
        hidden, classes = len(generator["blocks.0.ffn.fc1.weight"]), len(generator["class_emb.weight"]) - 1
        scale_mul = generator.get("blocks.0.attn.scale_mul_1H11")
        heads = width // _HEAD_SIZE if scale_mul is None else scale_mul.shape[1]
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"these are not the tensors of a VAR transformer: {error} is missing or misshapen") from None
    depth = len({match[1] for name in generator if (match := re.match(r"blocks\.(\d+)\.", name))})
    settings = {
        "model.depth": depth,
        "model.head_size": width // heads,
        "model.mlp_ratio": hidden // width,
        "model.qk_norm": scale_mul is not None,
        "model.shared_modulation": "shared_ada_lin.1.weight" in generator,
    }
    if heads != depth:
        settings["model.heads"] = heads
    return settings, _scales(generator.get("lvl_1L"), length), (codes, channels), classes


def _scales(scale_1L: Tensor | None, length: int) -> tuple[int, ...]:
    """Sides of the token maps: from the scale of each token if the file has it, else a known schedule of that length."""
    if scale_1L is not None:
        return tuple(math.isqrt(count) for count in torch.bincount(scale_1L.flatten().long()).tolist())
    for scales in DEFAULT_SCALES.values():
        if sum(side * side for side in scales) == length:
            return scales
    raise InputError(f"the file has no lvl_1L, and no known schedule of scales has {length} tokens; give the original file")
