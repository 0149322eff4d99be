"""A decoder-only transformer in raster order, with the class as its first token (LlamaGen, section 3.1).

It differs from LlamaGen's code in one place: there, the rotary table is zero for the class token, which erases its query and
key; here, the class token is not rotated.

Shape letters: B batch, L tokens, D width, P pairs of channels of a head, V codebook size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nvgbench_baselines.ar.blocks import NORM_EPS, Block, Placement, rotary_angles
from nvgbench_baselines.ar.config import ArModelConfig
from nvgbench_baselines.cache import LayerCache
from nvgbench_baselines.inference import SampledTransformer, linear

INIT_DEVIATION = 0.02


class ArTransformer(SampledTransformer):
    """Next-token prediction.

    Args:
        config: sizes.
        grid: height and width of the latent grid.
        codebook_size: V.
        num_classes: label ``num_classes`` means "no class".
    """

    cos_LP: Tensor
    sin_LP: Tensor
    order_L: Tensor

    def __init__(self, config: ArModelConfig, *, grid: tuple[int, int], codebook_size: int, num_classes: int) -> None:
        super().__init__()
        self.config = config
        self.grid = grid
        self.num_classes = num_classes
        self.length = grid[0] * grid[1]
        self.class_embedding = nn.Embedding(num_classes + 1, config.width)
        self.token_embedding = nn.Embedding(codebook_size, config.width)
        self.token_dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            Block(config.width, config.heads, config.hidden, config.dropout) for _ in range(config.depth)
        )
        self.norm = nn.RMSNorm(config.width, eps=NORM_EPS)
        self.head = nn.Linear(config.width, codebook_size, bias=False)
        angles_LP = rotary_angles(grid, config.head_size, config.rope_base)
        self.register_buffer("cos_LP", angles_LP.cos(), persistent=False)
        self.register_buffer("sin_LP", angles_LP.sin(), persistent=False)
        self.register_buffer("order_L", torch.arange(self.length), persistent=False)
        self._initialise()

    def forward(self, labels_B: Tensor, tokens_BL: Tensor) -> Tensor:
        """Teacher-forced logits of every token.

        Args:
            labels_B: int64, ``num_classes`` for no class.
            tokens_BL: int64 tokens in raster order; the last one is ignored.

        Returns:
            ``[B, L, V]``; those of token i depend on the class and on the tokens before i.
        """
        embedded_BLD = torch.cat([self.class_embedding(labels_B).unsqueeze(1), self.token_embedding(tokens_BL[:, :-1])], dim=1)
        return self._run(self.token_dropout(embedded_BLD), Placement(self.cos_LP, self.sin_LP), None)

    def step(self, place: int | Tensor, labels_B: Tensor, previous_B: Tensor | None, caches: Sequence[LayerCache]) -> Tensor:
        """Logits ``[B, V]`` of token ``place``; its key and value go to the caches.

        Args:
            place: a number, or an int64 tensor ``[1]`` that only the device knows. The latter attends to masked whole buffers,
                so that every place runs the same kernels; logits agree up to rounding.
            labels_B: int64, ``num_classes`` for no class.
            previous_B: token ``place - 1``; None for the first, which the class predicts.
            caches: one per block, the same for all places of a sequence.
        """
        embedded_BD = self.class_embedding(labels_B) if previous_B is None else self.token_embedding(previous_B)
        return self._run(embedded_BD.unsqueeze(1), self._placement(place), caches).squeeze(1)

    def half_precision_layers(self) -> list[nn.Linear]:
        """The layers that sampling in bf16 runs in bf16."""
        return [module for module in self.modules() if isinstance(module, nn.Linear)]

    def sharded_units(self) -> list[nn.Module]:
        """The blocks."""
        return list(self.blocks)

    def compile_blocks(self) -> None:
        """Compile what all blocks share."""
        for block in self.blocks:
            assert isinstance(block, Block)
            block.compile_halves()

    def _placement(self, place: int | Tensor) -> Placement:
        if isinstance(place, int):
            return Placement(self.cos_LP[place : place + 1], self.sin_LP[place : place + 1])
        cos_1P, sin_1P = (values.index_select(0, place) for values in (self.cos_LP, self.sin_LP))
        return Placement(cos_1P, sin_1P, place, (self.order_L <= place).view(1, 1, 1, -1))

    def _run(self, x_BLD: Tensor, placement: Placement, caches: Sequence[LayerCache] | None) -> Tensor:
        for layer, block in enumerate(self.blocks):
            x_BLD = block(x_BLD, placement, None if caches is None else caches[layer])
        return linear(self.head, self.norm(x_BLD))

    def _initialise(self) -> None:
        """Normal weights with standard deviation 0.02; a zero output layer, so that predictions start uniform."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=INIT_DEVIATION)
        nn.init.zeros_(self.head.weight)
