"""The hierarchy of structure maps of any latents: arguments, child orders, and the clusterings that need no latents.

Shape letters: B batch, S stages (K + 1), L positions in raster order, C latent channels, n clusters of a stage, k group size.
"""

from __future__ import annotations

import itertools
from typing import Literal, get_args

import torch
from torch import Tensor

from nvgbench.errors import InputError, did_you_mean
from nvgbench.nvg.clustering.backends import finest_maps
from nvgbench.nvg.clustering.batched import TieBreak, inverse_permutation, matched_levels
from nvgbench.nvg.clustering.lattice import integer_points
from nvgbench.nvg.config import GroupSize
from nvgbench.nvg.stages import stage_tokens
from nvgbench.nvg.structure import finest_to_stages

Method = Literal["greedy", "quadtree", "random"]
ChildOrder = Literal["matched", "raster", "random"]

# Distance matrices of the images clustered together: small enough for a CPU's cache, and for about 1 GiB on a GPU.
_CHUNK_ENTRIES_CPU = 2**20
_CHUNK_ENTRIES_GPU = 2**26


@torch.no_grad()
def build_structure(
    latent_BLC: Tensor,
    group_size: GroupSize = 2,
    *,
    child_order: ChildOrder = "matched",
    method: Method = "greedy",
    generator: torch.Generator | None = None,
    grid: tuple[int, int] | None = None,
    tie_break: TieBreak = "xor",
) -> Tensor:
    """Build the nested, balanced structure maps of every image.

    Latents should be computed in float32: rounding them to bfloat16 first changes the hierarchy of about half of all images.
    Half-precision input is upcast, which keeps the arithmetic exact but does not restore lost digits.

    Args:
        latent_BLC: float, L a power of ``group_size``. ``quadtree`` and ``random`` use its shape only.
        group_size: k, a power of two; each stage has k times as many clusters as the previous one. A list has one k for each
            split, coarse to fine, with product L. Larger groups are built by joining pairs repeatedly.
        child_order: which child of class j becomes k·j: ``matched``, the one whose pair was joined earlier (the closer pair;
            at the last stage the lower raster index); ``raster``, the one with the first member in raster order; ``random``.
            ``quadtree`` numbers children in raster order unless it is ``random``; ``random`` clusters are in the order drawn.
        method: ``greedy`` (Algorithm 1), ``quadtree`` (halves the grid along its longer side, rows first) or ``random`` (a
            random balanced split).
        generator: random source of ``method="random"`` and ``child_order="random"``.
        grid: height and width, required by ``quadtree``.
        tie_break: order of equal distances between clusters i < j of a level: by (i xor j, i), or by (i, j) like the first
            argmin over the matrix. ``xor`` pairs flat regions with their neighbours, in one round.

    Returns:
        int64 ``[B, S, L]``: stage 0 is all zeros, at stage K every label is unique, ``maps[:, i] == maps[:, i + 1] // k``.

    Raises:
        InputError: an invalid shape, name or combination, or latents that are not finite.
    """
    _check(latent_BLC, group_size, child_order, method, generator, grid, tie_break)
    batch, length, _ = latent_BLC.shape
    tokens = stage_tokens(length, group_size)
    if method == "greedy":
        entries = _CHUNK_ENTRIES_CPU if latent_BLC.device.type == "cpu" else _CHUNK_ENTRIES_GPU
        chunks = latent_BLC.split(max(1, entries // length**2))
        finest_BL = torch.cat([finest_maps(integer_points(chunk_BLC), tie_break) for chunk_BLC in chunks])
    elif method == "quadtree":
        assert grid is not None
        finest_BL = _quadtree(*grid, latent_BLC.device).expand(batch, length)
    else:
        assert generator is not None
        finest_BL = (
            torch.rand((batch, length), generator=generator, device=generator.device).argsort(dim=-1).to(latent_BLC.device)
        )
    if child_order != "matched":
        finest_BL = _reorder_children(finest_BL, tokens, generator if child_order == "random" else None)
    return finest_to_stages(finest_BL, tokens)


def _check(
    latent_BLC: Tensor,
    group_size: GroupSize,
    child_order: str,
    method: str,
    generator: torch.Generator | None,
    grid: tuple[int, int] | None,
    tie_break: str,
) -> None:
    for name, value, known in (
        ("method", method, get_args(Method)),
        ("child_order", child_order, get_args(ChildOrder)),
        ("tie_break", tie_break, get_args(TieBreak)),
    ):
        if value not in known:
            raise InputError(f"{name} {value!r} is unknown; use {', '.join(known)}{did_you_mean(str(value), known)}")
    if latent_BLC.dim() != 3 or not latent_BLC.is_floating_point() or 0 in latent_BLC.shape:
        raise InputError(f"latents must be a float tensor [B, L, C]; got {latent_BLC.dtype} {tuple(latent_BLC.shape)}")
    sizes = (group_size,) if isinstance(group_size, int) else group_size
    if any(size < 2 or size & (size - 1) for size in sizes):
        raise InputError(f"group_size {group_size} is not a power of two; use 2, 4, 8 …")
    length = latent_BLC.shape[1]
    try:
        stage_tokens(length, group_size)
    except InputError:
        raise InputError(
            f"{length} positions are not a power of the group size {group_size}, so they cannot be joined into one cluster; "
            "change the grid (e.g. 8x8 or 16x16) or the group size"
        ) from None
    if generator is None and "random" in (method, child_order):
        raise InputError(
            "a random clustering or child order needs a generator; pass generator=torch.Generator().manual_seed(…)"
        )
    if method == "quadtree" and (grid is None or grid[0] * grid[1] != length):
        raise InputError(f"the quadtree needs a grid (height, width) of {length} positions in all; got grid={grid}")


@torch.no_grad()
def joining_order(latent_BLC: Tensor, tie_break: TieBreak = "xor") -> Tensor:
    """The clusters of the binary greedy hierarchy, numbered at each stage in the order of joining.

    Args:
        latent_BLC, tie_break: as for `build_structure`.

    Returns:
        int64 ``[B, S, L]``: zeros at stage 0; at the last stage, where nothing was joined, the raster index.

    Raises:
        InputError: an invalid shape, or latents that are not finite.
    """
    _check(latent_BLC, 2, "matched", "greedy", None, None, tie_break)
    batch, length, _ = latent_BLC.shape
    structure_BL = torch.arange(length, device=latent_BLC.device).expand(batch, length)
    stages = [structure_BL]
    for first_Bm, second_Bm in matched_levels(integer_points(latent_BLC), tie_break):
        joined_Bn = torch.empty((batch, 2 * first_Bm.shape[1]), dtype=torch.int64, device=latent_BLC.device)
        index_Bm = torch.arange(first_Bm.shape[1], device=latent_BLC.device).expand_as(first_Bm)
        joined_Bn.scatter_(1, first_Bm, index_Bm).scatter_(1, second_Bm, index_Bm)
        stages.append(joined_Bn.gather(1, stages[-1]))
    return torch.stack(stages[::-1], dim=1)


def _quadtree(height: int, width: int, device: torch.device) -> Tensor:
    """The last structure map ``[1, L]``: bits of row and column in the order of the cuts, each across the longer side."""
    row_L = torch.arange(height, device=device).repeat_interleave(width)
    column_L = torch.arange(width, device=device).repeat(height)
    finest_L = torch.zeros_like(row_L)
    while height * width > 1:
        if height >= width:
            height //= 2
            finest_L = 2 * finest_L + (row_L // height) % 2
        else:
            width //= 2
            finest_L = 2 * finest_L + (column_L // width) % 2
    return finest_L[None]


def _reorder_children(finest_BL: Tensor, tokens: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Renumber siblings at each stage: randomly if a generator is given, else by their first member in raster order."""
    batch, length = finest_BL.shape
    position_BL = inverse_permutation(finest_BL)
    renamed_Bn = finest_BL.new_zeros((batch, 1))
    for parents, count in itertools.pairwise(tokens):
        if generator is None:
            key_Bn = position_BL.view(batch, count, length // count).amin(-1)
        else:
            key_Bn = torch.rand((batch, count), generator=generator, device=generator.device).to(finest_BL.device)
        rank_Bnk = key_Bn.view(batch, parents, count // parents).argsort(dim=-1, stable=True).argsort(dim=-1)
        renamed_Bn = (renamed_Bn[:, :, None] * (count // parents) + rank_Bnk).flatten(1)
    return renamed_Bn.gather(1, finest_BL)
