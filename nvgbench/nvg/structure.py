"""Structure maps: all stages from the last one, embedding (paper, equations 6 and 7), balanced split of the sampler.

Shape letters: B batch, S stages (K + 1), L positions of the latent grid in raster order, K structure channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nvgbench.errors import InputError


def finest_to_stages(structure_BL: Tensor, stages: int | Sequence[int]) -> Tensor:
    """All structure maps of a hierarchy from its last one.

    Class j of a stage is the parent of classes g·j … g·j + g - 1 of the next, so a coarser map is the last one without its low
    bits: s_i = s_K >> (K - i) for group size g = 2.

    Args:
        structure_BL: int64, every row a permutation of 0 … L - 1, L a power of two.
        stages: clusters of every stage, powers of two from 1 to L; or S = K + 1 for one group size, which follows from g^K = L.

    Returns:
        int64 ``[B, S, L]``, from all zeros (stage 0) to ``structure_BL`` itself (stage K).

    Raises:
        InputError: no group size gives that many stages of L positions, or they are not the clusters of balanced splits.
    """
    length = structure_BL.shape[-1]
    bits = length.bit_length() - 1
    if isinstance(stages, int):
        if stages < 2 or length != 1 << bits or bits % (stages - 1):
            raise InputError(
                f"{length} positions cannot be split into {stages} stages with one group size; "
                "use a power of two of positions whose logarithm is a multiple of the number of stages - 1"
            )
        shifts = list(range(bits, -1, -(bits // (stages - 1))))
    else:
        shifts = [bits - (clusters.bit_length() - 1) for clusters in stages]
        if min(shifts) < 0 or [length >> shift for shift in shifts] != list(stages) or length != 1 << bits:
            raise InputError(f"{length} positions cannot be split into stages of {tuple(stages)} clusters; use powers of two")
    return structure_BL[:, None, :] >> torch.tensor(shifts, device=structure_BL.device)[None, :, None]


def structure_embedding(structure_BL: Tensor, stage: int, num_channels: int) -> Tensor:
    """Structure map to structure channels (paper, equation 6): each stage adds one channel with the next bit as 0 or 2.

    Args:
        structure_BL: int64 in 0 … 2^stage - 1.
        stage: 0 … ``num_channels``.
        num_channels: K.

    Returns:
        float32 ``[B, L, K]``: 2·bit in the first ``stage`` channels (highest bit first), 1 (undecided) in the rest.

    Raises:
        InputError: ``stage`` is out of range.
    """
    if not 0 <= stage <= num_channels:
        raise InputError(f"stage {stage} does not exist with {num_channels} structure channels; use 0 … {num_channels}")
    shifts_K = torch.arange(stage - 1, -1, -1, device=structure_BL.device)
    se_BLK = torch.ones((*structure_BL.shape, num_channels), dtype=torch.float32, device=structure_BL.device)
    se_BLK[..., :stage] = (2 * ((structure_BL[..., None] >> shifts_K) & 1)).to(torch.float32)
    return se_BLK


def structure_labels(se_BLK: Tensor, stage: int) -> Tensor:
    """Structure channels to structure map (paper, equation 7), the inverse of `structure_embedding`.

    Args:
        se_BLK: values 0 and 2 in the first ``stage`` channels; the others are ignored.
        stage: 0 … K.

    Returns:
        int64 ``[B, L]`` in 0 … 2^stage - 1.

    Raises:
        InputError: ``stage`` is out of range.
    """
    num_channels = se_BLK.shape[-1]
    if not 0 <= stage <= num_channels:
        raise InputError(f"stage {stage} does not exist with {num_channels} structure channels; use 0 … {num_channels}")
    shifts_K = torch.arange(stage - 1, -1, -1, device=se_BLK.device)
    return ((se_BLK[..., :stage] > 1).to(torch.int64) << shifts_K).sum(-1)


def split_clusters(
    parent_BL: Tensor,
    stage: int,
    scores_BL: Tensor,
    generator: torch.Generator | None = None,
    *,
    uniforms_BL: Tensor | None = None,
) -> Tensor:
    """Split every cluster of a stage into two halves of equal size (paper, Algorithm 2).

    Higher scores go to the odd child. Scores are clamped to [-1, 1], shifted to [0, 2] and, with Gumbel noise, normalised
    within the parent: the top half by log(p + 1e-8) - log(-log u) (Gumbel-top-k) becomes the odd child 2j + 1. Among equal
    values the lower raster index goes to the odd child, so the result does not depend on the device.

    Args:
        parent_BL: int64 labels 0 … 2^stage - 1, each at exactly L / 2^stage positions.
        stage: the stage of ``parent_BL``.
        scores_BL: float, any range; channel ``stage`` of the structure flow's result in its own -1 … +1 units.
        generator: source of Gumbel noise; None for the deterministic split.
        uniforms_BL: uniform numbers in [0, 1) for the noise, instead of a generator.

    Returns:
        int64 ``[B, L]`` in 0 … 2^(stage+1) - 1: the structure map of stage + 1.

    Raises:
        InputError: shapes differ, the clusters of ``stage`` cannot be halved, or both sources of noise are given.
    """
    batch, length = parent_BL.shape
    parents = 1 << stage
    if generator is not None:
        if uniforms_BL is not None:
            raise InputError("give either generator or uniforms_BL, not both")
        uniforms_BL = torch.rand(parent_BL.shape, generator=generator, device=generator.device).to(parent_BL.device)
    members, rest = divmod(length, parents)
    if rest or members % 2:
        raise InputError(f"{length} positions in {parents} clusters of stage {stage} cannot be halved; use an earlier stage")
    if scores_BL.shape != parent_BL.shape or (uniforms_BL is not None and uniforms_BL.shape != parent_BL.shape):
        shapes = [tuple(t.shape) for t in (parent_BL, scores_BL, uniforms_BL) if t is not None]
        raise InputError(f"structure map, scores and uniforms must have the same shape [B, L]; got {shapes}")
    # Half precision would turn different scores into ties.
    values_BL = scores_BL.to(torch.float32).nan_to_num(nan=0.0).clamp(-1, 1) + 1
    if uniforms_BL is not None:
        totals_BP = values_BL.new_zeros((batch, parents)).scatter_add_(1, parent_BL, values_BL)
        # If all members of a parent score -1 they are equally likely, not 0/0.
        probabilities_BL = values_BL / totals_BP.gather(1, parent_BL).clamp_min(torch.finfo(torch.float32).tiny)
        tiny = torch.finfo(torch.float32).tiny
        # A uniform that rounds to 1 would give infinite, tied values.
        uniforms_BL = uniforms_BL.to(torch.float32).clamp(tiny, 1 - 2**-24)
        values_BL = torch.log(probabilities_BL + 1e-8) - torch.log(-torch.log(uniforms_BL))
    by_value_BL = values_BL.argsort(dim=1, descending=True, stable=True)
    by_parent_BL = by_value_BL.gather(1, parent_BL.gather(1, by_value_BL).argsort(dim=1, stable=True))
    is_odd_L = torch.arange(length, device=parent_BL.device) % members < members // 2
    odd_BL = torch.empty_like(parent_BL).scatter_(1, by_parent_BL, is_odd_L.to(parent_BL.dtype).expand(batch, length))
    return 2 * parent_BL + odd_BL
