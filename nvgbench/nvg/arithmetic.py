"""The arithmetic of a single-stream block as functions of tensors: for training and compilers, and in place for the CPU.

Shape letters: B batch (a sample is one image at one stage), N tokens, S = B x N, W width, V hidden size of the MLP,
H heads, D head size.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from nvgbench.nvg.rope import Rotation
from nvgbench.sampling.linear_gelu import linear_gelu

EPSILON = 1e-6


def modulated_norm(x_BNW: Tensor, shift_B1W: Tensor, scale_B1W: Tensor) -> Tensor:
    """Layer norm without weights, then scale and shift; at least float32."""
    normed_BNW = F.layer_norm(_wide(x_BNW), x_BNW.shape[-1:], eps=EPSILON)
    return torch.addcmul(_wide(shift_B1W), normed_BNW, 1 + _wide(scale_B1W))


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype.itemsize >= 4 else x.float()


class BlockWeights(NamedTuple):
    """The weights of a block outside its modulation. Rows of ``in_weight``: q, k, v (each heads x head size), MLP."""

    in_weight: Tensor
    in_bias: Tensor
    out_weight: Tensor
    out_bias: Tensor
    query_scale_D: Tensor
    key_scale_D: Tensor


def single_stream(
    x_BNW: Tensor,
    vectors_B3W: Tensor,
    rotation: Rotation,
    weights: BlockWeights,
    last: int | None = None,
    keep_B11: Tensor | None = None,
) -> Tensor:
    """The arithmetic of `SingleStreamBlock`, a function of tensors only, so that all blocks share one compiled code.

    Args:
        x_BNW, rotation, last: as there.
        vectors_B3W: shift, scale and gate.
        weights: of the block.
        keep_B11: factor of each sample's update (stochastic depth); None for 1.
    """
    shift_B1W, scale_B1W, gate_B1W = vectors_B3W.split(1, dim=1)
    normed_BNW = modulated_norm(x_BNW, shift_B1W, scale_B1W).to(weights.in_weight.dtype)
    query, key, value, mlp = _project(normed_BNW, weights, last)
    if last is not None:
        x_BNW = x_BNW[:, -last:]
    attended_BNW = _attend(query, key, value, rotation, weights, last)
    joined = torch.cat((attended_BNW, F.gelu(mlp, approximate="tanh")), dim=-1)
    update_BNW = gate_B1W * F.linear(joined, weights.out_weight, weights.out_bias)
    return x_BNW + (update_BNW if keep_B11 is None else update_BNW * keep_B11)


def _project(x_BNW: Tensor, weights: BlockWeights, last: int | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    width, weight, bias = x_BNW.shape[-1], weights.in_weight, weights.in_bias
    if last is None:
        query, key, value, mlp = F.linear(x_BNW, weight, bias).split((width, width, width, len(weight) - 3 * width), -1)
        return query, key, value, mlp
    key, value = F.linear(x_BNW, weight[width : 3 * width], bias[width : 3 * width]).chunk(2, dim=-1)
    kept_BNW = x_BNW[:, -last:]
    query = F.linear(kept_BNW, weight[:width], bias[:width])
    return query, key, value, F.linear(kept_BNW, weight[3 * width :], bias[3 * width :])


def _attend(query: Tensor, key: Tensor, value: Tensor, rotation: Rotation, weights: BlockWeights, last: int | None) -> Tensor:
    size = len(weights.query_scale_D)
    query, key, value = (part.unflatten(-1, (-1, size)).transpose(1, 2) for part in (query, key, value))
    query = rotation.of_last(last).apply(_rms_norm(query, weights.query_scale_D)).to(value.dtype)
    key = rotation.apply(_rms_norm(key, weights.key_scale_D)).to(value.dtype)
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


def _rms_norm(x_BHND: Tensor, scale_D: Tensor) -> Tensor:
    """In float32: a half-precision mean of squares would blur the rotation's angles."""
    return F.rms_norm(x_BHND.float(), x_BHND.shape[-1:], scale_D.float(), eps=EPSILON)


def single_stream_in_place(
    x_BNW: Tensor, vectors_B3W: Tensor, rotation: Rotation, weights: BlockWeights, last: int | None = None
) -> Tensor:
    """`single_stream` without the stochastic depth, equal to it within rounding.

    A block of a small model spends most of its time on copies and on memory that is new to the process. Here results replace
    their operands, and attention and MLP each have their own product with the output layer, instead of being joined first.
    """
    shift_B1W, scale_B1W, gate_B1W = vectors_B3W.split(1, dim=1)
    width, weight, bias = x_BNW.shape[-1], weights.in_weight, weights.in_bias
    normed_BNW = modulated_norm(x_BNW, shift_B1W, scale_B1W)
    if last is None:
        query, key, value = F.linear(normed_BNW, weight[: 3 * width], bias[: 3 * width]).chunk(3, dim=-1)
    else:
        key, value = F.linear(normed_BNW, weight[width : 3 * width], bias[width : 3 * width]).chunk(2, dim=-1)
        normed_BNW, x_BNW = normed_BNW[:, -last:], x_BNW[:, -last:]
        query = F.linear(normed_BNW, weight[:width], bias[:width])
    mlp_BNV = linear_gelu(normed_BNW, weight[3 * width :], bias[3 * width :])
    query_BHND = _turned(query, weights.query_scale_D, rotation.of_last(last))
    key_BHND = _turned(key, weights.key_scale_D, rotation)
    value_BHND = value.unflatten(-1, (-1, len(weights.key_scale_D))).transpose(1, 2)
    attended_BHND = F.scaled_dot_product_attention(query_BHND, key_BHND, value_BHND)
    update_BNW = F.linear(attended_BHND.transpose(1, 2).flatten(2), weights.out_weight[:, :width], weights.out_bias)
    sums_SW = update_BNW.flatten(0, 1)
    torch.addmm(sums_SW, mlp_BNV.flatten(0, 1), weights.out_weight[:, width:].t(), out=sums_SW)
    return update_BNW.mul_(gate_B1W).add_(x_BNW)


def _turned(x_BNW: Tensor, scale_D: Tensor, rotation: Rotation) -> Tensor:
    """RMS norm and rotation, ``[B, H, N, D]``."""
    x_BNHD = x_BNW.unflatten(-1, (-1, len(scale_D)))
    factor_BNH1 = x_BNHD.square().mean(-1, keepdim=True).add_(EPSILON).rsqrt_()
    x_BNHD = (x_BNHD * factor_BNH1).mul_(scale_D)
    rotation.turn_(x_BNHD)
    return x_BNHD.transpose(1, 2)
