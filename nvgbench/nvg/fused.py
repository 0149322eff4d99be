"""A block's training step on the CPU: `nvgbench.nvg.arithmetic.single_stream` with its derivative written out.

Automatic differentiation of a small model spends most of its time between the matrix products: it keeps every intermediate
result, and pads the gradient of each slice with zeros before it adds them. Here each gradient is written to where the next
product reads it. Results differ from those of `single_stream` by rounding only.

Shape letters: B batch (a sample is one image at one stage), N tokens, M tokens whose output is needed (all, or the last ones),
W width, V hidden size of the MLP, H heads, D head size, P channel pairs (D / 2).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from nvgbench.nvg.arithmetic import EPSILON, BlockWeights
from nvgbench.nvg.rope import Rotation

_attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_attention_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward

# The tanh form of gelu(x) is x · sigmoid(LINEAR x + CUBIC x³).
LINEAR = 2 * math.sqrt(2 / math.pi)
CUBIC = 0.044715 * LINEAR


def single_stream_fused(
    x_BNW: Tensor,
    vectors_B3W: Tensor,
    rotation: Rotation,
    weights: BlockWeights,
    last: int | None = None,
    keep_B11: Tensor | None = None,
) -> Tensor:
    """`single_stream` in float32 on the CPU, with gradients (which cannot be differentiated again)."""
    shift_B1W, scale_B1W, gate_B1W = vectors_B3W.split(1, dim=1)
    if keep_B11 is not None:
        gate_B1W = gate_B1W * keep_B11
    tokens = last or x_BNW.shape[1]
    result: Tensor = _SingleStream.apply(x_BNW, shift_B1W, 1 + scale_B1W, gate_B1W, rotation.unit_B1NP2, tokens, *weights)
    return result


class _SingleStream(torch.autograd.Function):
    """Inputs: tokens, shift, 1 + scale, gate, rotation, M, then the fields of `BlockWeights`."""

    @staticmethod
    def forward(
        ctx: Any,
        x_BNW: Tensor,
        shift_B1W: Tensor,
        scale_B1W: Tensor,
        gate_B1W: Tensor,
        unit_B1NP2: Tensor,
        last: int,
        *weights: Tensor,
    ) -> Tensor:
        w, width = BlockWeights(*weights), x_BNW.shape[-1]
        normed_BNW, mean_BN1, inverse_BN1 = torch.native_layer_norm(x_BNW, [width], None, None, EPSILON)
        hidden_BNW = torch.addcmul(shift_B1W, normed_BNW, scale_B1W)
        kept_BMW = hidden_BNW[:, -last:]
        query_BMW = F.linear(kept_BMW, w.in_weight[:width], w.in_bias[:width])
        key_BNW, value_BNW = F.linear(hidden_BNW, w.in_weight[width : 3 * width], w.in_bias[width : 3 * width]).chunk(2, dim=-1)
        query = _turn(query_BMW, w.query_scale_D, unit_B1NP2[:, :, -last:])
        key = _turn(key_BNW, w.key_scale_D, unit_B1NP2)
        value_BHND = value_BNW.unflatten(-1, (-1, len(w.key_scale_D))).transpose(1, 2)
        attended_BHMD, sums_BHM = _attention(query[0], key[0], value_BHND)
        mlp_BMV = F.linear(kept_BMW, w.in_weight[3 * width :], w.in_bias[3 * width :])
        sigmoid_BMV = torch.addcmul(mlp_BMV.new_tensor(LINEAR), mlp_BMV, mlp_BMV, value=CUBIC).mul_(mlp_BMV).sigmoid_()
        joined = x_BNW.new_empty(*kept_BMW.shape[:2], w.out_weight.shape[1])
        joined[..., :width].copy_(attended_BHMD.transpose(1, 2).flatten(2))
        torch.mul(mlp_BMV, sigmoid_BMV, out=joined[..., width:])
        update_BMW = F.linear(joined, w.out_weight, w.out_bias)
        ctx.save_for_backward(
            x_BNW, mean_BN1, inverse_BN1, normed_BNW, hidden_BNW, scale_B1W, gate_B1W, unit_B1NP2, *query, *key, value_BHND,
            attended_BHMD, sums_BHM, mlp_BMV, sigmoid_BMV, joined, update_BMW, *weights,
        )  # fmt: skip
        return torch.addcmul(x_BNW[:, -last:], gate_B1W, update_BMW)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BMW: Tensor) -> tuple[Tensor | None, ...]:
        (
            x_BNW, mean_BN1, inverse_BN1, normed_BNW, hidden_BNW, scale_B1W, gate_B1W, unit_B1NP2, query_BHMD, query_normed,
            query_inverse, key_BHND, key_normed, key_inverse, value_BHND, attended_BHMD, sums_BHM, mlp_BMV, sigmoid_BMV, joined,
            update_BMW, *weights,
        ) = ctx.saved_tensors  # fmt: skip  # once: recomputed activations can be taken only once
        w, width, last = BlockWeights(*weights), x_BNW.shape[-1], grad_BMW.shape[1]
        kept_BMW = hidden_BNW[:, -last:]

        d_gate_B1W = (grad_BMW * update_BMW).sum(1, keepdim=True)
        d_update_BMW = grad_BMW * gate_B1W
        d_out_weight, d_out_bias = _weight_gradient(d_update_BMW, joined)
        d_joined = d_update_BMW @ w.out_weight

        d_attended_BHMD = d_joined[..., :width].unflatten(-1, (-1, len(w.key_scale_D))).transpose(1, 2)
        d_query_BHMD, d_key_BHND, d_value_BHND = _attention_backward(
            d_attended_BHMD, query_BHMD, key_BHND, value_BHND, attended_BHMD, sums_BHM, 0.0, False
        )
        d_query_BMW, d_query_scale_D = _turn_backward(
            d_query_BHMD, query_normed, query_inverse, w.query_scale_D, unit_B1NP2[:, :, -last:]
        )
        d_key_BNW, d_key_scale_D = _turn_backward(d_key_BHND, key_normed, key_inverse, w.key_scale_D, unit_B1NP2)
        d_value_BNW = d_value_BHND.transpose(1, 2).flatten(2)
        d_mlp_BMV = _gelu_gradient(mlp_BMV, sigmoid_BMV, joined[..., width:]).mul_(d_joined[..., width:])

        parts = ((d_query_BMW, kept_BMW), (d_key_BNW, hidden_BNW), (d_value_BNW, hidden_BNW), (d_mlp_BMV, kept_BMW))
        d_in_weight, d_in_bias = (torch.cat(rows) for rows in zip(*(_weight_gradient(*part) for part in parts), strict=True))
        query_rows, key_rows, value_rows, mlp_rows = w.in_weight.split((width, width, width, len(w.in_weight) - 3 * width))
        d_hidden_BNW = (d_key_BNW @ key_rows).add_(d_value_BNW @ value_rows)
        d_hidden_BNW[:, -last:].add_(d_query_BMW @ query_rows).add_(d_mlp_BMV @ mlp_rows)

        d_shift_B1W = d_hidden_BNW.sum(1, keepdim=True)
        d_scale_B1W = (d_hidden_BNW * normed_BNW).sum(1, keepdim=True)
        d_x_BNW, _, _ = torch.ops.aten.native_layer_norm_backward(
            d_hidden_BNW.mul_(scale_B1W), x_BNW, [width], mean_BN1, inverse_BN1, None, None, [True, False, False]
        )
        d_x_BNW[:, -last:].add_(grad_BMW)
        return (
            d_x_BNW, d_shift_B1W, d_scale_B1W, d_gate_B1W, None, None,
            *BlockWeights(d_in_weight, d_in_bias, d_out_weight, d_out_bias, d_query_scale_D, d_key_scale_D),
        )  # fmt: skip


def _turn(x_BNW: Tensor, scale_D: Tensor, unit_B1NP2: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """RMS norm and rotation ``[B, H, N, D]``; the norm before its scale ``[B, N, H, D]``, and its factor ``[B, N, H, 1]``."""
    x_BNHD = x_BNW.unflatten(-1, (-1, len(scale_D)))
    inverse_BNH1 = x_BNHD.square().mean(-1, keepdim=True).add_(EPSILON).rsqrt_()
    normed_BNHD = x_BNHD * inverse_BNH1
    turned_BNHD = normed_BNHD * scale_D
    Rotation(unit_B1NP2).turn_(turned_BNHD)
    return turned_BNHD.transpose(1, 2), normed_BNHD, inverse_BNH1


def _turn_backward(
    grad_BHND: Tensor, normed_BNHD: Tensor, inverse_BNH1: Tensor, scale_D: Tensor, unit_B1NP2: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of `_turn`'s arguments x and scale."""
    grad_BNHD = grad_BHND.transpose(1, 2).contiguous()
    Rotation(unit_B1NP2).turn_back_(grad_BNHD)
    product_BNHD = grad_BNHD * normed_BNHD
    d_scale_D = product_BNHD.sum((0, 1, 2))
    mean_BNH1 = product_BNHD.matmul(scale_D / len(scale_D)).unsqueeze(-1)
    grad_BNHD.mul_(scale_D).addcmul_(normed_BNHD, mean_BNH1, value=-1).mul_(inverse_BNH1)
    return grad_BNHD.flatten(2), d_scale_D


def _gelu_gradient(x: Tensor, sigmoid: Tensor, gelu: Tensor) -> Tensor:
    """s + x s (1 - s)(LINEAR + 3 CUBIC x²), where s is the sigmoid and x s the gelu."""
    slope = torch.addcmul(x.new_tensor(LINEAR), x, x, value=3 * CUBIC).mul_(gelu)
    return torch.addcmul(sigmoid, slope, 1 - sigmoid)


def _weight_gradient(grad: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of the weight and bias of a linear layer with input ``x``."""
    rows = grad.flatten(0, -2)
    return rows.t() @ x.flatten(0, -2), rows.sum(0)
