"""NVG's published files: their contents, and the conversion to and from our models.

Shape letters: L positions, A axes of the rotary embedding, S stages, V codebook size.
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
from nvgbench.nvg.checkpoint import UNUSED, from_published_state, to_published_state
from nvgbench.nvg.rope import CLASS_ID, TOKEN_ID
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.tokenizer import PUBLISHED_NAMES
from nvgbench.weights.fit import check_codebooks

_PRESET_DEPTHS = (12, 16, 20, 24)
_REPOSITORY = "yikaiwang/nvg"
_TERMS = "gated; S-Lab License 1.0, non-commercial"
# Other tensors in a generator's file, with their prefixes.
_BESIDE = re.compile(r"(nvgformer|ema_model|first_stage_model|repa_encoder)\.")


class NvgOriginal:
    """Yikai-Wang/nvg; implements `nvgbench.interfaces.OriginalProject`."""

    title = "NVG"
    suffix = ".ckpt"
    container: str | None = "state_dict"
    hub: Mapping[str, HubFile] = {
        "ae.ckpt": HubFile(repository=_REPOSITORY, part="tokenizer", terms=_TERMS),
        **{f"d{depth}.ckpt": HubFile(repository=_REPOSITORY, part="generator", terms=_TERMS) for depth in (16, 20, 24)},
    }
    tokenizer_inside: str | None = "first_stage_model."

    def part(self, keys: Collection[str]) -> Literal["tokenizer", "generator"] | None:
        if any(key.endswith("structure_content_cond_embed.weight") for key in keys):
            return "generator"
        return "tokenizer" if any(key.endswith("encoder.conv_in.conv.weight") for key in keys) else None

    def prefixes(self, part: str) -> tuple[str, str | None]:
        return ("nvgformer.", "ema_model.nvgformer.") if part == "generator" else ("", "ema_model.")

    def is_unused(self, part: str, name: str) -> bool:
        if part == "generator":
            return name.startswith(UNUSED) or _BESIDE.match(name) is not None
        return re.search(PUBLISHED_NAMES.ignored, name) is not None

    def sizes(self, generator: Mapping[str, Tensor] | None, tokenizer: Mapping[str, Tensor] | None) -> OriginalSizes:
        settings: dict[str, Any] = {}
        if tokenizer is not None:
            settings |= {f"tokenizer.{key}": value for key, value in PUBLISHED_NAMES.settings(tokenizer).items()}
            downsampling = 2 ** (len(settings["tokenizer.channel_multipliers"]) - 1)
            if generator is None:
                # One refiner per stage, and twice as many tokens at each stage: the last stage has one per position.
                stages = len({name for name in tokenizer if re.match(r"quantize\.quant_resi\.\d+\.weight", name)})
                settings["data.image_size"] = math.isqrt(2 ** max(stages - 1, 0)) * downsampling
        if generator is None:
            return OriginalSizes(preset="nvg-d16", settings=settings)
        model, positions, codebook, classes = _generator_sizes(generator)
        settings |= model
        if tokenizer is not None:
            check_codebooks(codebook, tuple(tokenizer["quantize.embedding.weight"].shape))
            settings["data.image_size"] = math.isqrt(positions) * downsampling
        preset = f"nvg-d{min(_PRESET_DEPTHS, key=lambda known: abs(known - model['model.depth']))}"
        return OriginalSizes(preset=preset, settings=settings, classes=classes)

    def from_original(
        self, part: str, given: Mapping[str, Tensor], own: Mapping[str, Tensor], config: RunConfig
    ) -> dict[str, Tensor]:
        return from_published_state(given, own) if part == "generator" else PUBLISHED_NAMES.from_published(given, own)

    def to_original(self, part: str, own: Mapping[str, Tensor], config: RunConfig) -> dict[str, Tensor]:
        """The tensors of a part under published names.

        Raises:
            InputError: the structure generator has another objective, which no file in this layout could tell.
        """
        if part != "generator":
            return PUBLISHED_NAMES.to_published(own)
        if config.model.structure_objective != "flow":
            raise InputError(
                f"model.structure_objective = {config.model.structure_objective!r} does not exist in the published layout; "
                "only runs with 'flow' can be exported"
            )
        return to_published_state(own)

    def derived(self, part: str, config: RunConfig) -> dict[str, Tensor]:
        """Ids of the content sequence with undecided structure; zero counters of code use.

        A run trained without feature alignment has no projector, and none is invented.
        """
        layout = StageLayout(config.grid, config.tokenizer.quantizer.group_size)
        if part == "tokenizer":
            return {"total_visited_codes": torch.zeros(layout.stages, config.tokenizer.codebook_size, dtype=torch.int64)}
        height, width = layout.grid
        ids_LA = torch.full((layout.positions, layout.channels + 3), TOKEN_ID)
        ids_LA[:, -2] = torch.arange(height).repeat_interleave(width)
        ids_LA[:, -1] = torch.arange(width).repeat(height)
        return {"rope_ids": torch.cat((torch.full((1, ids_LA.shape[1]), CLASS_ID), ids_LA))[None]}


def _generator_sizes(generator: Mapping[str, Tensor]) -> tuple[dict[str, Any], int, tuple[int, int], int]:
    """Settings of the model, positions of the grid, codebook (codes, channels), classes."""
    try:
        codes, channels = generator["cls_head.linear.weight"].shape
        positions = generator["content_start_embed"].shape[1]
        width, structure_width = len(generator["content_embed.weight"]), len(generator["structure_embed.weight"])
        head_size = len(generator["content_blocks.0.norm.query_norm.scale"])
        fused = len(generator["content_blocks.0.linear1.weight"])
        stages = len(generator["content_stage_embed.weight"])
        classes = len(generator["content_class_embed.weight"]) - 1
        channels_K = generator["structure_embed.weight"].shape[1]
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"these are not the tensors of an NVG generator: {error} is missing or misshapen") from None
    depth = len({match[1] for name in generator if (match := re.match(r"content_blocks\.(\d+)\.", name))})
    settings: dict[str, Any] = {
        "model.depth": depth,
        "model.head_size": head_size,
        "model.mlp_ratio": fused // width - 3,
        "tokenizer.quantizer.group_size": 2 ** (channels_K // max(stages - 1, 1)),
    }
    if width != head_size * depth:
        settings["model.content_heads"] = width // head_size
    if structure_width != head_size * max(depth // 2, 1):
        settings["model.structure_heads"] = structure_width // head_size
    return settings, positions, (codes, channels), classes
