"""From logits to tokens: top-k, top-p and the draw. B: batch, n: tokens drawn at once, V: codebook size.

The rules are those of VAR and NVG: top-k before top-p, ties with the k-th logit kept, and top-p drops the entries whose
cumulative probability in ascending order is at most 1 - p.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nvgbench.errors import InputError


def top_k_filter(logits: Tensor, k: int) -> Tensor:
    """Set all but the ``k`` largest logits of the last axis to -inf; ties with the k-th are kept. ``k`` = 0: no limit.

    Raises:
        InputError: ``k`` is negative.
    """
    if k < 0:
        raise InputError(f"top_k = {k}: give 0 (no limit) or a positive number of tokens")
    if k == 0 or k >= logits.shape[-1]:
        return logits
    threshold = logits.topk(k, dim=-1, sorted=False).values.amin(dim=-1, keepdim=True)
    return logits.masked_fill(logits < threshold, -torch.inf)


def top_p_filter(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of most probable entries of the last axis with probability ``p``; the rest becomes -inf.

    The most probable entry is always kept. ``p`` = 1: no limit.

    Raises:
        InputError: ``p`` is not in (0, 1].
    """
    if not 0.0 < p <= 1.0:
        raise InputError(f"top_p = {p}: give a probability in (0, 1]; 1 means no limit")
    if p == 1.0:
        return logits
    ascending, order = logits.sort(dim=-1)
    drop = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1.0 - p
    drop[..., -1] = False
    return logits.masked_fill(torch.zeros_like(drop).scatter(-1, order, drop), -torch.inf)


def choose_tokens(
    logits_BnV: Tensor, uniforms_Bn: Tensor, *, temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0
) -> Tensor:
    """Draw one token per row by inverting the cumulative distribution.

    Args:
        logits_BnV: unnormalised log probabilities, any float type.
        uniforms_Bn: one number in [0, 1) per row; the same number gives the same token on every device, up to rounding.
        temperature: divides the logits before the filters.
        top_k: 0 for no limit; 1 is argmax, regardless of the other settings.
        top_p: 1 for no limit.

    Returns:
        int64 ``[B, n]``; never a token that the filters removed.

    Raises:
        InputError: a setting is out of range.
    """
    if temperature <= 0:
        raise InputError(f"temperature = {temperature}: give a positive number (top_k = 1 for the most likely token)")
    if top_k == 1:
        return logits_BnV.argmax(dim=-1)
    assert uniforms_Bn.shape == logits_BnV.shape[:-1]
    kept_BnV = top_p_filter(top_k_filter(logits_BnV.float() / temperature, top_k), top_p)
    # Summed in double precision: in single, a long tail of small probabilities would be lost.
    cumulative_BnV = kept_BnV.double().softmax(dim=-1).cumsum(dim=-1)
    threshold_Bn1 = uniforms_Bn.to(cumulative_BnV).unsqueeze(-1) * cumulative_BnV[..., -1:]
    tokens_Bn1 = torch.searchsorted(cumulative_BnV, threshold_Bn1, right=True)
    return tokens_Bn1.squeeze(-1)
