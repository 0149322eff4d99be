"""Parts of both generators: single-stream blocks (attention and MLP in parallel), modulation, heads, embeddings.

Shape letters: B batch (a sample is one image at one stage), N tokens, W width, H heads, D head size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.nvg.arithmetic import BlockWeights, modulated_norm, single_stream, single_stream_in_place
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.fused import single_stream_fused
from nvgbench.nvg.rope import Rotation
from nvgbench.sampling.compiling import compiled
from nvgbench.sampling.linear_gelu import is_plain

TIME_CHANNELS = 64


class Modulation(nn.Module):
    """Shift, scale (and gate) of a layer from the conditioning vector; computed per sample, not per token."""

    def __init__(self, width: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.linear = nn.Linear(width, parts * width)

    def forward(self, condition_BW: Tensor) -> Tensor:
        """``[B, parts, W]``, in the order shift, scale, gate."""
        linear = self.linear
        return linear(F.silu(condition_BW).to(linear.weight.dtype)).unflatten(-1, (self.parts, -1))


class SingleStreamBlock(nn.Module):
    """Attention and MLP in parallel: one input projection, one gated output projection.

    Args:
        width: W, heads · head size.
        heads: H.
        mlp_ratio: hidden size of the MLP, as a multiple of W.
        drop_path: probability that a sample skips the block in training; the others are scaled up.
    """

    def __init__(self, width: int, heads: int, mlp_ratio: int, drop_path: float) -> None:
        super().__init__()
        self.drop_path = drop_path
        self.modulation = Modulation(width, 3)
        self.linear_in = nn.Linear(width, (3 + mlp_ratio) * width)
        self.linear_out = nn.Linear((1 + mlp_ratio) * width, width)
        self.query_scale = nn.Parameter(torch.ones(width // heads))
        self.key_scale = nn.Parameter(torch.ones(width // heads))
        self._arithmetic: Callable[..., Tensor] = single_stream

    def forward(self, x_BNW: Tensor, vectors_B3W: Tensor, rotation: Rotation, last: int | None = None) -> Tensor:
        """One block.

        Args:
            x_BNW: tokens.
            vectors_B3W: shift, scale and gate, from ``modulation``.
            rotation: rotary embedding of the N tokens.
            last: compute only the last ``last`` tokens (they attend to all N), for a last block whose other tokens are unused.

        Returns:
            ``[B, N, W]``, or ``[B, last, W]``.
        """
        weights = BlockWeights(
            in_weight=self.linear_in.weight,
            in_bias=self.linear_in.bias,
            out_weight=self.linear_out.weight,
            out_bias=self.linear_out.bias,
            query_scale_D=self.query_scale,
            key_scale_D=self.key_scale,
        )
        if self._arithmetic is single_stream and is_plain(x_BNW):
            if not torch.is_grad_enabled():
                return single_stream_in_place(x_BNW, vectors_B3W, rotation, weights, last)
            return single_stream_fused(x_BNW, vectors_B3W, rotation, weights, last, self._keep(x_BNW))
        return self._arithmetic(x_BNW, vectors_B3W, rotation, weights, last, self._keep(x_BNW))

    def compile_arithmetic(self) -> None:
        """Use the compiled code, which all blocks share."""
        self._arithmetic = compiled(single_stream)

    def _keep(self, x_BNW: Tensor) -> Tensor | None:
        if not self.training or self.drop_path == 0:
            return None
        keep = 1 - self.drop_path
        mask_B11 = torch.rand(len(x_BNW), 1, 1, device=x_BNW.device) < keep
        return mask_B11.to(x_BNW.dtype) / keep


class ModulatedHead(nn.Module):
    """Modulated layer norm and a linear layer: the output layer of both generators."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.modulation = Modulation(width, 2)
        self.linear = nn.Linear(width, channels)

    def forward(self, x_BNW: Tensor, vectors_B2W: Tensor) -> Tensor:
        return self.linear(modulated_norm(x_BNW, *vectors_B2W.split(1, dim=1)))


def timestep_embedding(t_B: Tensor, channels: int = TIME_CHANNELS) -> Tensor:
    """Cosines, then sines, of 1000 t at frequencies from 1 to 1/10000; float32 ``[B, channels]``."""
    half = channels // 2
    frequency = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32, device=t_B.device) / half)
    angle = 1000.0 * t_B.float()[:, None] * frequency
    return torch.cat((angle.cos(), angle.sin()), dim=-1)


class TimeEmbedding(nn.Module):
    """Two linear layers on the sinusoidal embedding of the flow time (0 data, 1 noise)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_in = nn.Linear(TIME_CHANNELS, width)
        self.linear_out = nn.Linear(width, width)

    def forward(self, t_B: Tensor) -> Tensor:
        return self.linear_out(F.silu(self.linear_in(timestep_embedding(t_B))))


def make_blocks(config: NvgModelConfig, width: int) -> nn.ModuleList:
    """The blocks of a transformer; the drop-path rate rises linearly from 0 to the configured one."""
    rates = [config.drop_path_rate * block / max(config.depth - 1, 1) for block in range(config.depth)]
    heads = width // config.head_size
    return nn.ModuleList(SingleStreamBlock(width, heads, config.mlp_ratio, rate) for rate in rates)


def initialise(module: nn.Module) -> None:
    """The reference's initialisation: Xavier for linear layers (also the modulation), biases 0, embeddings N(0, 0.02²)."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.xavier_uniform_(part.weight)
            nn.init.zeros_(part.bias)
        elif isinstance(part, nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)


def layer_vectors(blocks: nn.ModuleList, head: ModulatedHead, condition_BW: Tensor) -> Iterator[Tensor]:
    """The modulation of every block, then of the head: ``[B, 3, W]`` … ``[B, 2, W]``."""
    return (modulation(condition_BW) for modulation in _modulations(blocks, head))


def all_vectors(blocks: nn.ModuleList, head: ModulatedHead, condition_BW: Tensor) -> Tensor:
    """The same in one product, ``[B, 3 blocks + 2, W]``; `split_vectors` gives each layer its own."""
    linears = [modulation.linear for modulation in _modulations(blocks, head)]
    weight, bias = (torch.cat([getattr(linear, name) for linear in linears]) for name in ("weight", "bias"))
    return F.linear(F.silu(condition_BW).to(weight.dtype), weight, bias).unflatten(-1, (-1, condition_BW.shape[-1]))


def split_vectors(vectors_BPW: Tensor, blocks: nn.ModuleList, head: ModulatedHead) -> Iterator[Tensor]:
    """The result of `all_vectors` as that of `layer_vectors`."""
    return iter(vectors_BPW.split([modulation.parts for modulation in _modulations(blocks, head)], dim=1))


def in_parts(function: Callable[[Tensor], Tensor], parts: Sequence[Tensor]) -> Tensor:
    """``function`` of each part, stacked along the batch: in one call on CUDA.

    On the CPU each part is a call of its own: products of few rows round differently from products of many, and a batch of one
    would no longer give the same bits as before.
    """
    if parts[0].is_cuda:
        return function(torch.cat(tuple(parts)))
    return torch.cat([function(part) for part in parts])


def token_stream(blocks: nn.ModuleList, *tokens: Tensor) -> Tensor:
    """The tokens as one sequence; in bf16 where the blocks' weights are."""
    x_BNW = torch.cat(tokens, dim=1)
    weight = cast("SingleStreamBlock", blocks[0]).linear_in.weight
    return x_BNW.to(weight.dtype) if weight.dtype is torch.bfloat16 else x_BNW


def half_precision_layers(blocks: nn.ModuleList, head: ModulatedHead) -> list[nn.Linear]:
    """The linear layers that have bf16 weights in `bf16` sampling: those of the blocks, and all modulation.

    Embeddings and output layers stay in float32: they take less than a hundredth of the operations, and their rounding would
    reach the canvas and the flow directly.
    """
    return [*(part for part in blocks.modules() if isinstance(part, nn.Linear)), head.modulation.linear]


def _modulations(blocks: nn.ModuleList, head: ModulatedHead) -> list[Modulation]:
    return [cast("SingleStreamBlock | ModulatedHead", layer).modulation for layer in (*blocks, head)]
