"""Llama's transformer block with a rotary embedding in two dimensions (LlamaGen, section 3.1).

Shape letters: B batch, L tokens, D width, H heads, E head size, F hidden size.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench_baselines.cache import LayerCache

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


def rotate(x_BHLE: Tensor, angles_LP: Tensor) -> Tensor:
    """Rotate each pair of adjacent channels (2j, 2j + 1) by its angle, in float32; the result has the input's dtype."""
    even, odd = x_BHLE.float().unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = angles_LP.cos(), angles_LP.sin()
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(x_BHLE.dtype)


class Attention(nn.Module):
    """Causal multi-head attention without biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x_BLD: Tensor, angles_LP: Tensor, cache: LayerCache | None) -> Tensor:
        """Causal attention over all tokens; with a cache, over all tokens so far for one new token."""
        assert cache is None or x_BLD.shape[1] == 1
        query, key, value = self.qkv(x_BLD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key = rotate(query, angles_LP), rotate(key, angles_LP)
        if cache is not None:
            key, value = cache.extend(key, value)
        mixed_BHLE = F.scaled_dot_product_attention(query, key, value, is_causal=cache is None)
        return self.out(mixed_BHLE.transpose(1, 2).flatten(2))


class GatedFeedForward(nn.Module):
    """SwiGLU: down(SiLU(gate(x)) · up(x)), without biases."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self.down(F.silu(self.gate(x_BLD)) * self.up(x_BLD))


class Block(nn.Module):
    """Attention and feed-forward branch, each after RMSNorm."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.attention = Attention(width, heads)
        self.feed_forward_norm = nn.RMSNorm(width, eps=NORM_EPS)
        self.feed_forward = GatedFeedForward(width, hidden)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BLD: Tensor, angles_LP: Tensor, cache: LayerCache | None) -> Tensor:
        x_BLD = x_BLD + self.dropout(self.attention(self.attention_norm(x_BLD), angles_LP, cache))
        return x_BLD + self.dropout(self.feed_forward(self.feed_forward_norm(x_BLD)))
