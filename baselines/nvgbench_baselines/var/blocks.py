"""Attention, modulation and the transformer block of VAR (paper, section 3.3, and its appendix on implementation).

Shape letters: B batch, L tokens, D width, H heads, E head size, N modulation vectors.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.sampling.compiling import compiled
from nvgbench.sampling.linear_gelu import linear_gelu
from nvgbench_baselines.cache import LayerCache
from nvgbench_baselines.inference import linear

NORM_EPS = 1e-6
# Clamp of a head's learned log scale, which limits how sharp attention can become.
MAX_LOG_SCALE = math.log(100.0)
BLOCK_VECTORS = 6
HEAD_VECTORS = 2


def modulate(x_BLD: Tensor, scale_B1D: Tensor, shift_B1D: Tensor) -> Tensor:
    """(1 + scale) · norm(x) + shift, with a LayerNorm without parameters, in the precision of x."""
    scale_B1D, shift_B1D = scale_B1D.to(x_BLD.dtype), shift_B1D.to(x_BLD.dtype)
    return F.layer_norm(x_BLD, x_BLD.shape[-1:], eps=NORM_EPS) * (1 + scale_B1D) + shift_B1D


class Kept(NamedTuple):
    """Which images keep a branch in this step of training (drop path), and the share that is kept on average.

    Tensors, and drawn outside of what is compiled: one code then serves the rates of all blocks.
    """

    image_B11: Tensor
    share: Tensor

    @classmethod
    def draw(cls, x_BLD: Tensor, rate: float) -> Kept:
        """From torch's global generator, which the training loop reseeds at every step."""
        kept_B11 = torch.rand(len(x_BLD), 1, 1, device=x_BLD.device) >= rate
        return cls(kept_B11.to(x_BLD.dtype), torch.full((), 1 - rate, dtype=x_BLD.dtype, device=x_BLD.device))


def drop_path(x_BLD: Tensor, kept: Kept | None) -> Tensor:
    """Drop the branch of some images and scale up the others; identity if none is dropped."""
    return x_BLD if kept is None else x_BLD * kept.image_B11 / kept.share


class Modulation(nn.Module):
    """SiLU and one linear layer from the class embedding to ``vectors`` vectors of the model's width."""

    def __init__(self, width: int, vectors: int) -> None:
        super().__init__()
        self.vectors = vectors
        self.linear = nn.Linear(width, vectors * width)

    def forward(self, class_BD: Tensor) -> Tensor:
        """``[B, D]`` to ``[B, N, 1, D]``."""
        return linear(self.linear, F.silu(class_BD)).unflatten(-1, (self.vectors, 1, -1))


class Attention(nn.Module):
    """Multi-head attention with biases for queries and values, but not for keys.

    With ``qk_norm``, queries and keys have unit length and each head's query has a learned scale (at most 100). Without it, the
    products are scaled by 0.25 / √E.
    """

    def __init__(self, width: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(width))
        self.value_bias = nn.Parameter(torch.zeros(width))
        self.log_scale_H = nn.Parameter(torch.full((heads,), math.log(4.0))) if qk_norm else None
        self.out = nn.Linear(width, width)

    @property
    def softmax_scale(self) -> float:
        return 0.25 / math.sqrt(self.query_bias.shape[0] // self.heads) if self.log_scale_H is None else 1.0

    def project(self, x_BLD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, ``[B, H, L, E]``."""
        bias = torch.cat([self.query_bias, torch.zeros_like(self.query_bias), self.value_bias])
        weight = self.qkv.weight
        qkv = F.linear(x_BLD.to(weight.dtype), weight, bias.to(weight.dtype)).unflatten(-1, (3, self.heads, -1))
        query_BHLE, key_BHLE, value_BHLE = qkv.permute(2, 0, 3, 1, 4)
        if self.log_scale_H is not None:
            # Normalised in float32, even under autocast.
            scale_H11 = self.log_scale_H.float().clamp(max=MAX_LOG_SCALE).exp().view(-1, 1, 1)
            query_BHLE = (F.normalize(query_BHLE.float(), dim=-1) * scale_H11).to(value_BHLE.dtype)
            key_BHLE = F.normalize(key_BHLE.float(), dim=-1).to(value_BHLE.dtype)
        return query_BHLE, key_BHLE, value_BHLE

    def forward(self, mixed_BHLE: Tensor) -> Tensor:
        """The output layer, on the values mixed by attention."""
        return self.out(mixed_BHLE.transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with a tanh GELU in between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        return self.down(linear_gelu(x_BLD.to(self.up.weight.dtype), self.up.weight, self.up.bias))


class Block(nn.Module):
    """Attention and feed-forward branch; the class modulates the input and gates the output of each.

    Args:
        shared_modulation: the block adds an offset to six vectors that all blocks share, instead of computing its own.
    """

    def __init__(
        self, width: int, heads: int, mlp_ratio: int, *, qk_norm: bool, shared_modulation: bool, drop_path: float
    ) -> None:
        super().__init__()
        self.attention = Attention(width, heads, qk_norm)
        self.feed_forward = FeedForward(width, mlp_ratio * width)
        self.drop_path = drop_path
        self.modulation = None if shared_modulation else Modulation(width, BLOCK_VECTORS)
        # Standard deviation 1/√D as in the published code, before its factors for gates and for the rest.
        self.modulation_offset_6D = (
            nn.Parameter(torch.randn(BLOCK_VECTORS, width) / math.sqrt(width)) if shared_modulation else None
        )
        self._halves = Block.project, Block.finish

    def compile_halves(self) -> None:
        """Use the compiled `project` and `finish`, which all blocks share. The number of tokens differs from scale to scale."""
        self._halves = compiled(Block.project, dynamic=True), compiled(Block.finish, dynamic=True)

    def vectors(self, class_BD: Tensor, shared_B61D: Tensor | None) -> Tensor:
        """The block's gates (attention, feed-forward), scales and shifts, ``[B, 6, 1, D]``."""
        if self.modulation is not None:
            return self.modulation(class_BD)
        assert shared_B61D is not None
        assert self.modulation_offset_6D is not None
        return shared_B61D + self.modulation_offset_6D.unsqueeze(1)

    def forward(self, x_BLD: Tensor, vectors_B61D: Tensor, mask_LL: Tensor | None, cache: LayerCache | None) -> Tensor:
        project, finish = self._halves
        dropping = self.training and self.drop_path > 0
        kept = (Kept.draw(x_BLD, self.drop_path), Kept.draw(x_BLD, self.drop_path)) if dropping else (None, None)
        query, key, value = project(self, x_BLD, vectors_B61D)
        if cache is not None:
            key, value = cache.extend(key, value)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask_LL, scale=self.attention.softmax_scale)
        return finish(self, x_BLD, mixed, vectors_B61D, kept)

    def project(self, x_BLD: Tensor, vectors_B61D: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values. This and `finish` can be compiled; the cache between them differs from call to call."""
        _, _, scale, _, shift, _ = vectors_B61D.unbind(1)
        return self.attention.project(modulate(x_BLD, scale, shift))

    def finish(
        self, x_BLD: Tensor, mixed_BHLE: Tensor, vectors_B61D: Tensor, kept: tuple[Kept | None, Kept | None] = (None, None)
    ) -> Tensor:
        """Add both branches."""
        gate1, gate2, _, scale, _, shift = vectors_B61D.unbind(1)
        x_BLD = x_BLD + drop_path(self.attention(mixed_BHLE) * gate1, kept[0])
        fed = self.feed_forward(modulate(x_BLD, scale, shift))
        return x_BLD + drop_path(fed * gate2, kept[1])
