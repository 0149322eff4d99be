"""Parameters and FLOPs (2 x multiply-accumulates) of NVG from its configuration alone.

Matrix products, attention and convolutions are counted, as in `torch.utils.flop_counter`; the rest is small.

Letters: L positions, N tokens of a sequence, w width, r ratio of the MLP, C latent channels, K structure channels.
"""

from __future__ import annotations

import fnmatch

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nvgbench.config.schema import RunConfig
from nvgbench.interfaces import CostCard
from nvgbench.nvg.blocks import TIME_CHANNELS
from nvgbench.nvg.generator import NvgGenerator
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure_flow.registry import OBJECTIVES
from nvgbench.sampling.schedules import guidance_schedule

# The backward pass computes two products for each one of the forward pass.
_TRAINING_PASSES = 3


def cost_card(config: RunConfig, tokenizer: nn.Module, generator: NvgGenerator) -> CostCard:
    """See `nvgbench.interfaces.ModelFamily.cost`; the modules may be on the meta device."""
    layout, sampling = generator.layout, config.sampling
    stages = range(layout.stages)
    content = [content_flops(config, layout, stage) for stage in stages]
    structure = structure_flops(config, layout)
    content_training = 0 if _is_frozen(config, generator.content, "content") else _TRAINING_PASSES * sum(content)
    training_passes = generator.flow.training_cost(config.model.structure_target == "teacher")
    passes = generator.flow.passes(sampling)
    content_scales = _scales(sampling.content_guidance, layout.stages)
    structure_scales = _scales(sampling.structure_guidance, layout.stages)[: layout.structure_stages]
    guided_passes = sum(_branches(scale) for scale in structure_scales) * passes
    parts = {"tokenizer": tokenizer, "content": generator.content, "structure": generator.structure}
    return CostCard(
        parameters={name: sum(weight.numel() for weight in part.parameters()) for name, part in parts.items()},
        sampling_flops={
            "content": sum(_branches(scale) * flops for scale, flops in zip(content_scales, content, strict=True)),
            "structure": guided_passes * structure,
            "quantizer": layout.stages * 2 * layout.positions * 9 * config.tokenizer.latent_channels**2,
            "decoder": _decoder_flops(config, tokenizer),
        },
        training_flops=round(content_training + layout.structure_stages * training_passes * structure),
        layers=config.model.depth,
        notes={
            "structure": f"{guided_passes:,} passes: {layout.structure_stages} stages x {passes}, twice where guided",
            "training": f"the structure takes {training_passes:g} forward passes per stage"
            + ("" if content_training else ", the content is frozen and takes none"),
        },
    )


def content_flops(config: RunConfig, layout: StageLayout, stage: int) -> int:
    """One pass of the content generator for one image at ``stage``, without guidance."""
    width, positions, channels = config.model.content_width, layout.positions, config.tokenizer.latent_channels
    tokens = positions + 1
    return (
        2 * positions * channels * width
        + config.model.depth * _block_flops(width, config.model.mlp_ratio, tokens, tokens)
        + _head_flops(width, positions, channels)
        + 2 * layout.tokens[stage] * channels * config.tokenizer.codebook_size
    )


def structure_flops(config: RunConfig, layout: StageLayout) -> int:
    """One pass of the structure generator for one image, without guidance; the same at every stage."""
    two_times = OBJECTIVES[config.model.structure_objective].two_times
    width, positions = config.model.structure_width, layout.positions
    tokens = 2 * positions + 1
    return (
        2 * positions * (layout.channels + config.tokenizer.latent_channels) * width
        + (2 if two_times else 1) * 2 * (TIME_CHANNELS + width) * width
        + (config.model.depth - 1) * _block_flops(width, config.model.mlp_ratio, tokens, tokens)
        + _block_flops(width, config.model.mlp_ratio, tokens, positions)
        + _head_flops(width, positions, layout.channels)
    )


def _block_flops(width: int, ratio: int, tokens: int, kept: int) -> int:
    """A single-stream block with keys and values for all tokens, and everything else for ``kept`` of them."""
    linear = 2 * (2 * tokens + (2 + 2 * ratio) * kept) * width**2
    return linear + 4 * kept * tokens * width + 2 * 3 * width**2


def _head_flops(width: int, positions: int, channels: int) -> int:
    return 2 * 2 * width**2 + 2 * positions * width * channels


def _is_frozen(config: RunConfig, part: nn.Module, name: str) -> bool:
    """Whether training leaves all of a part as it is, so that it does not run."""
    patterns = config.train.generator.frozen
    return all(any(fnmatch.fnmatch(f"{name}.{key}", pattern) for pattern in patterns) for key, _ in part.named_parameters())


def _scales(ends: tuple[float, float], stages: int) -> list[float]:
    return guidance_schedule(*ends, stages)


def _branches(scale: float) -> int:
    """Guidance of exactly 1 needs no unconditional branch."""
    return 1 if scale == 1.0 else 2


def _decoder_flops(config: RunConfig, tokenizer: nn.Module) -> int:
    """Counted on the meta device, without arithmetic."""
    tokenizer = tokenizer.to("meta")
    canvas = torch.empty(1, config.tokenizer.latent_channels, *config.grid, device="meta")
    with torch.no_grad(), sdpa_kernel([SDPBackend.MATH]), FlopCounterMode(display=False) as counter:
        tokenizer.decode(canvas)  # type: ignore[operator]
    return int(counter.get_total_flops())
