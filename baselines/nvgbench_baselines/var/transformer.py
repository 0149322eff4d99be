"""VAR's transformer: all tokens of a scale at once, from the canvas of the earlier scales (paper, section 3.3).

Shape letters: B batch, S scales, L tokens of all scales, n tokens of one scale, C latent channels, D width, V codebook size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nvgbench_baselines.cache import LayerCache
from nvgbench_baselines.inference import SampledTransformer, linear
from nvgbench_baselines.var.blocks import BLOCK_VECTORS, HEAD_VECTORS, Block, Modulation, modulate
from nvgbench_baselines.var.config import VarModelConfig

# Factors of the initial weights of the modulation (gates have their own) and of the output layer.
MODULATION_INIT = 0.5
HEAD_INIT = 0.02


@dataclass(frozen=True)
class Condition:
    """The class embedding and all modulation vectors; the same for every scale, so a sampler computes them once.

    Attributes:
        class_BD: the class embedding, also the content of the first scale's tokens.
        blocks: six modulation vectors per block, ``[B, 6, 1, D]``.
        head: scale and shift before the output layer, ``[B, 2, 1, D]``.
    """

    class_BD: Tensor
    blocks: tuple[Tensor, ...]
    head: Tensor


class VarTransformer(SampledTransformer):
    """Next-scale prediction.

    Args:
        config: sizes.
        scales: side of every scale's token map.
        channels: latent channels C.
        codebook_size: V.
        num_classes: label ``num_classes`` means "no class".
    """

    mask_LL: Tensor
    stage_L: Tensor

    def __init__(
        self, config: VarModelConfig, *, scales: tuple[int, ...], channels: int, codebook_size: int, num_classes: int
    ) -> None:
        super().__init__()
        self.config = config
        self.num_classes = num_classes
        self.stage_tokens = tuple(side * side for side in scales)
        width, length = config.width, sum(self.stage_tokens)
        self.class_embedding = nn.Embedding(num_classes + 1, width)
        self.start_nD = nn.Parameter(torch.empty(self.stage_tokens[0], width))
        self.position_LD = nn.Parameter(torch.empty(length, width))
        self.scale_embedding = nn.Embedding(len(scales), width)
        self.input = nn.Linear(channels, width)
        self.shared_modulation = Modulation(width, BLOCK_VECTORS) if config.shared_modulation else None
        self.blocks = nn.ModuleList(
            Block(
                width,
                config.num_heads,
                config.mlp_ratio,
                qk_norm=config.qk_norm,
                shared_modulation=config.shared_modulation,
                drop_path=config.last_drop_path * index / max(config.depth - 1, 1),
            )
            for index in range(config.depth)
        )
        self.head_modulation = Modulation(width, HEAD_VECTORS)
        self.head = nn.Linear(width, codebook_size)
        stage_L = torch.cat([torch.full((tokens,), stage) for stage, tokens in enumerate(self.stage_tokens)])
        self.register_buffer("stage_L", stage_L, persistent=False)
        self.register_buffer("mask_LL", stage_L[:, None] >= stage_L[None, :], persistent=False)
        self._initialise()

    def forward(self, labels_B: Tensor, inputs_BNC: Tensor) -> Tensor:
        """Teacher-forced logits of every token.

        Args:
            labels_B: int64, ``num_classes`` for no class.
            inputs_BNC: inputs of the scales after the first: the canvas so far, resized to each scale (N = L - n_0).

        Returns:
            ``[B, L, V]``; logits of a scale depend only on the inputs of that and earlier scales.
        """
        condition = self.condition(labels_B)
        tokens_BLD = torch.cat([self.start_tokens(condition), self.input(inputs_BNC)], dim=1)
        return self._run(tokens_BLD + self._placement(0, tokens_BLD.shape[1]), condition, self.mask_LL, None)

    def condition(self, labels_B: Tensor) -> Condition:
        """The class embedding and all modulation vectors."""
        class_BD = self.class_embedding(labels_B)
        shared = None if self.shared_modulation is None else self.shared_modulation(class_BD)
        blocks = tuple(block.vectors(class_BD, shared) for block in self._blocks())
        return Condition(class_BD, blocks, self.head_modulation(class_BD))

    def start_tokens(self, condition: Condition) -> Tensor:
        """Tokens of the first scale, ``[B, n_0, D]``, without position embedding."""
        return condition.class_BD.unsqueeze(1) + self.start_nD

    def step(self, stage: int, inputs_BnC: Tensor | None, condition: Condition, caches: Sequence[LayerCache]) -> Tensor:
        """Logits ``[B, n, V]`` of one scale; appends to the caches of keys and values.

        Args:
            inputs_BnC: the canvas resized to this scale; None at the first.
        """
        start = sum(self.stage_tokens[:stage])
        tokens_BnD = self.start_tokens(condition) if inputs_BnC is None else self.input(inputs_BnC)
        return self._run(tokens_BnD + self._placement(start, start + self.stage_tokens[stage]), condition, None, caches)

    def step_without_cache(self, stage: int, inputs_BNC: Tensor, condition: Condition) -> Tensor:
        """The same logits from all tokens so far.

        Args:
            inputs_BNC: the inputs of all scales after the first, up to this one.
        """
        tokens_BLD = torch.cat([self.start_tokens(condition), self.input(inputs_BNC)], dim=1)
        end, new = tokens_BLD.shape[1], self.stage_tokens[stage]
        return self._run(tokens_BLD + self._placement(0, end), condition, self.mask_LL[:end, :end], None)[:, -new:]

    def _run(
        self, tokens_BLD: Tensor, condition: Condition, mask_LL: Tensor | None, caches: Sequence[LayerCache] | None
    ) -> Tensor:
        for layer, (block, vectors) in enumerate(zip(self.blocks, condition.blocks, strict=True)):
            tokens_BLD = block(tokens_BLD, vectors, mask_LL, None if caches is None else caches[layer])
        scale_B1D, shift_B1D = condition.head.unbind(1)
        return linear(self.head, modulate(tokens_BLD, scale_B1D, shift_B1D))

    def _placement(self, start: int, end: int) -> Tensor:
        """Embeddings of scale and position of tokens ``start`` … ``end - 1``."""
        return self.scale_embedding(self.stage_L[start:end]) + self.position_LD[start:end]

    def half_precision_layers(self) -> list[nn.Linear]:
        """The layers that sampling in bf16 runs in bf16: all but the narrow input."""
        return [module for module in self.modules() if isinstance(module, nn.Linear) and module is not self.input]

    def sharded_units(self) -> list[nn.Module]:
        """Blocks and their modulation, which is computed for all of them beforehand.

        With shared modulation, a block's offsets are needed then too, so that only its feed-forward branch stands on its own.
        """
        if self.shared_modulation is not None:
            return [block.feed_forward for block in self._blocks()]
        return [unit for block in self._blocks() for unit in (block.get_submodule("modulation"), block)]

    def compile_blocks(self) -> None:
        """Compile what all blocks share."""
        for block in self._blocks():
            block.compile_halves()

    def _blocks(self) -> list[Block]:
        return [block for block in self.blocks if isinstance(block, Block)]

    @torch.no_grad()
    def _initialise(self) -> None:
        """Truncated normal with standard deviation √(1/3D) and bounds ±2; factors that keep a deep stack near the identity."""
        width, depth = self.config.width, self.config.depth
        deviation = math.sqrt(1 / (3 * width))
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.trunc_normal_(module.weight, std=deviation)
            if isinstance(module, nn.Linear) and module.bias is not None:
                nn.init.zeros_(module.bias)
        for parameter in (self.start_nD, self.position_LD):
            nn.init.trunc_normal_(parameter, std=deviation)
        self.head.weight.mul_(HEAD_INIT)
        self.head_modulation.linear.weight.mul_(MODULATION_INIT)
        for block in self._blocks():
            block.attention.out.weight.div_(math.sqrt(2 * depth))
            block.feed_forward.down.weight.div_(math.sqrt(2 * depth))
            if block.modulation is not None:
                rows = block.modulation.linear.weight.unflatten(0, (BLOCK_VECTORS, width))
            else:
                assert block.modulation_offset_6D is not None
                rows = block.modulation_offset_6D
            rows[:2].mul_(self.config.gate_init)
            rows[2:].mul_(MODULATION_INIT)
