"""Llama's transformer block with a rotary embedding in two dimensions (LlamaGen, section 3.1).

Shape letters: B batch, L tokens, D width, H heads, E head size, F hidden size, N capacity of a cache,
P pairs of channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.sampling.compiling import compiled
from nvgbench_baselines.cache import LayerCache
from nvgbench_baselines.inference import linear

NORM_EPS = 1e-5


def rotary_angles(grid: tuple[int, int], head_size: int, base: float) -> Tensor:
    """Angles of the class token (no rotation) and of all positions but the last in raster order, ``[L, E/2]``, float32.

    Token i of the sequence predicts position i and is rotated as position i - 1, which it contains. Rows rotate the first half
    of the pairs, columns the second, with frequencies base^(-4j/E) each.
    """
    quarter = head_size // 4
    frequencies = base ** (-torch.arange(quarter, dtype=torch.float64) / quarter)
    rows = torch.arange(grid[0], dtype=torch.float64)[:, None] * frequencies
    columns = torch.arange(grid[1], dtype=torch.float64)[:, None] * frequencies
    angles = torch.cat([rows[:, None].expand(-1, grid[1], -1), columns[None].expand(grid[0], -1, -1)], dim=-1)
    return torch.cat([torch.zeros(1, 2 * quarter, dtype=torch.float64), angles.flatten(0, 1)[:-1]]).float()


@dataclass(frozen=True)
class Placement:
    """Where the tokens of a pass stand; the same for all blocks.

    Attributes:
        cos_LP, sin_LP: of their rotary angles.
        place_1: the place of the one new token if only the device knows it, int64.
        seen_111N: the places that this token attends to, bool.
    """

    cos_LP: Tensor
    sin_LP: Tensor
    place_1: Tensor | None = None
    seen_111N: Tensor | None = None


def rotate(x_BHLE: Tensor, placement: Placement) -> Tensor:
    """Rotate each pair of adjacent channels (2j, 2j + 1) by its angle, in float32; the result has the input's dtype."""
    even, odd = x_BHLE.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = placement.cos_LP, placement.sin_LP
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(x_BHLE.dtype)


class Attention(nn.Module):
    """Causal multi-head attention without biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def project(self, x_BLD: Tensor, placement: Placement) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values, ``[B, H, L, E]``."""
        qkv = linear(self.qkv, x_BLD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = rotate(qkv[:2], placement).unbind(0)
        return query, key, qkv[2]

    def forward(self, mixed_BHLE: Tensor) -> Tensor:
        """The output layer, on what `attend` mixed."""
        return self.out(mixed_BHLE.transpose(1, 2).flatten(2))


def attend(query: Tensor, key: Tensor, value: Tensor, placement: Placement, cache: LayerCache | None) -> Tensor:
    """Causal attention over all tokens; with a cache, over all tokens so far for one new token."""
    if cache is None:
        return F.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert query.shape[2] == 1
    if placement.place_1 is None:
        key, value = cache.extend(key, value)
    else:
        key, value = cache.write(placement.place_1, key, value)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=placement.seen_111N)


class GatedFeedForward(nn.Module):
    """SwiGLU: down(SiLU(gate(x)) · up(x)), without biases."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self.down(F.silu(linear(self.gate, x_BLD)) * linear(self.up, x_BLD))


class Block(nn.Module):
    """Attention and feed-forward branch, each after RMSNorm."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.attention = Attention(width, heads)
        self.feed_forward_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.feed_forward = GatedFeedForward(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self._halves = Block.project, Block.finish

    def compile_halves(self) -> None:
        """Use the compiled `project` and `finish`, which all blocks share."""
        self._halves = compiled(Block.project), compiled(Block.finish)

    def forward(self, x_BLD: Tensor, placement: Placement, cache: LayerCache | None) -> Tensor:
        project, finish = self._halves
        return finish(self, x_BLD, attend(*project(self, x_BLD, placement), placement, cache))

    def project(self, x_BLD: Tensor, placement: Placement) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values. This and `finish` can be compiled; the cache between them differs from call to call."""
        return self.attention.project(self.attention_norm(x_BLD), placement)

    def finish(self, x_BLD: Tensor, mixed_BHLE: Tensor) -> Tensor:
        """Add both branches."""
        x_BLD = x_BLD + self.dropout(self.attention(mixed_BHLE))
        return x_BLD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BLD)))
