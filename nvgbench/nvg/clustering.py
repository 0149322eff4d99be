"""The hierarchy of structure maps, built bottom-up from latents (paper, Algorithm 1): exact, batched, on any device.

At each level the closest pair of cluster means is joined and removed from the pool, until the pool is empty.
`nvgbench.nvg.sequential` does this pair by pair. Three ideas make it fast, and independent of batch size, device and number
of threads:

1. *Lattice.* Latents are rounded to integers, so squared distances are exact integers whatever the order of summation.
   Floating-point distances depend on how they are computed, and in flat image regions that alone decides the pairs. The step
   is a power of two per image, derived from its largest magnitude: 2^-16 for 256 latents of 32 channels that reach 4 … 8.
2. *Strict total order of edges.* With ties broken by index, no two edges are equal. Joining all mutual nearest neighbours at
   once, round after round, then gives exactly the pairs of the sequential loop, and sorting them gives its order. One int64
   key holds distance and indices, so the minimum of a row identifies its nearest neighbour.
3. *Recurrence.* Clusters of a level have equal sizes, so the distances of the next level follow from those of this one:
   |a + b - c - d|² = ac + ad + bc + bd - ab - cd, between the sums of the members.

Shape letters: B batch, S stages (K + 1), L positions in raster order, C latent channels, n clusters of a level, r unmatched
clusters, k group size.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from nvgbench.errors import InputError, did_you_mean
from nvgbench.nvg.structure import finest_to_stages

Method = Literal["greedy", "quadtree", "random"]
ChildOrder = Literal["matched", "raster", "random"]
TieBreak = Literal["xor", "index"]

_NO_EDGE = torch.iinfo(torch.int64).max
# Key matrices of the images clustered together: small enough for a CPU's cache, and for 1 GiB on a GPU.
_CHUNK_ENTRIES_CPU = 2**20
_CHUNK_ENTRIES_GPU = 2**26


@torch.no_grad()
def build_structure(
    latent_BLC: Tensor,
    group_size: int = 2,
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
        group_size: k, a power of two; each stage has k times as many clusters as the previous one. Larger groups are built by
            joining pairs repeatedly.
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
    stages = round(math.log(length, group_size)) + 1
    if method == "greedy":
        entries = _CHUNK_ENTRIES_CPU if latent_BLC.device.type == "cpu" else _CHUNK_ENTRIES_GPU
        chunks = latent_BLC.split(max(1, entries // length**2))
        finest_BL = torch.cat([_greedy(_lattice(chunk_BLC), tie_break) for chunk_BLC in chunks])
    elif method == "quadtree":
        assert grid is not None
        finest_BL = _quadtree(*grid, latent_BLC.device).expand(batch, length)
    else:
        assert generator is not None
        finest_BL = (
            torch.rand((batch, length), generator=generator, device=generator.device).argsort(dim=-1).to(latent_BLC.device)
        )
    if child_order != "matched":
        finest_BL = _reorder_children(finest_BL, stages, group_size, generator if child_order == "random" else None)
    return finest_to_stages(finest_BL, stages)


def _check(
    latent_BLC: Tensor,
    group_size: int,
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
    if group_size < 2 or group_size & (group_size - 1):
        raise InputError(f"group_size {group_size} is not a power of two; use 2, 4, 8 …")
    length = latent_BLC.shape[1]
    if length < group_size or group_size ** round(math.log(length, group_size)) != length:
        raise InputError(
            f"{length} positions are not a power of the group size {group_size}, so they cannot be joined into one cluster; "
            "change the grid (e.g. 8x8 or 16x16) or the group size"
        )
    if generator is None and "random" in (method, child_order):
        raise InputError(
            "a random clustering or child order needs a generator; pass generator=torch.Generator().manual_seed(…)"
        )
    if method == "quadtree" and (grid is None or grid[0] * grid[1] != length):
        raise InputError(f"the quadtree needs a grid (height, width) of {length} positions in all; got grid={grid}")
    if method == "greedy" and not bool(torch.isfinite(latent_BLC).all()):
        raise InputError("latents contain NaN or infinite values; did the encoder diverge?")


def _lattice(latent_BLC: Tensor) -> Tensor:
    """Round latents to integers, stored as float64 because matrix products need floats.

    The range of an image is the power of two at or above its largest magnitude, so nothing is clipped and scaling all latents
    by a power of two does not change the hierarchy. The steps are as fine as exact arithmetic allows: 2^-12 was measured to be
    too coarse for images, whose smooth regions have distances of that size.
    """
    _, length, channels = latent_BLC.shape
    for_sums = 51 - math.ceil(math.log2(channels))  # squared distances in float64, below 2^53
    for_keys = 60 - math.ceil(math.log2(channels)) - 2 * round(math.log2(length))  # keys in int64, below 2^62
    bits = min(for_sums, for_keys) // 2
    exact_BLC = latent_BLC.to(torch.float32).to(torch.float64)
    largest_B = exact_BLC.abs().amax((1, 2))
    _, exponent_B = torch.frexp(largest_B)  # largest = mantissa · 2^exponent, 0.5 <= mantissa < 1
    # A magnitude that is itself a power of two belongs to the lower range.
    exponent_B = exponent_B - (torch.ldexp(torch.ones_like(largest_B), exponent_B - 1) == largest_B).to(exponent_B.dtype)
    steps_B = torch.ldexp(torch.ones_like(largest_B), bits - exponent_B)
    return (exact_BLC * steps_B[:, None, None]).round()


def _greedy(points_BLC: Tensor, tie_break: TieBreak) -> Tensor:
    """The last structure map ``[B, L]`` of the binary hierarchy of integer points."""
    levels = _levels(points_BLC, tie_break)
    # Top-down: clusters of a level are numbered in the order of joining, so first < second is also the order of children.
    order_Bn = levels[-1][0].new_zeros((len(points_BLC), 1))
    for first_Bm, second_Bm in reversed(levels):
        order_Bn = torch.stack((first_Bm.gather(1, order_Bn), second_Bm.gather(1, order_Bn)), dim=2).flatten(1)
    return _inverse(order_Bn)


def _levels(points_BLC: Tensor, tie_break: TieBreak) -> list[tuple[Tensor, Tensor]]:
    """The pairs joined at each level, finest first: first and second cluster ``[B, n / 2]``, in the order of joining."""
    gram_BLL = points_BLC @ points_BLC.transpose(1, 2)
    squares_BL = gram_BLL.diagonal(dim1=1, dim2=2)
    distance_Bnn = (squares_BL[:, :, None] + squares_BL[:, None, :] - 2 * gram_BLL).to(torch.int64)
    levels: list[tuple[Tensor, Tensor]] = []
    while distance_Bnn.shape[-1] > 1:
        keys_Bm = _match_pairs(distance_Bnn, tie_break)
        first_Bm, second_Bm, within_Bm = _decode(keys_Bm, distance_Bnn.shape[-1], tie_break)
        levels.append((first_Bm, second_Bm))
        distance_Bnn = _join(distance_Bnn, first_Bm, second_Bm, within_Bm)
    return levels


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
    for first_Bm, second_Bm in _levels(_lattice(latent_BLC), tie_break):
        joined_Bn = torch.empty((batch, 2 * first_Bm.shape[1]), dtype=torch.int64, device=latent_BLC.device)
        index_Bm = torch.arange(first_Bm.shape[1], device=latent_BLC.device).expand_as(first_Bm)
        joined_Bn.scatter_(1, first_Bm, index_Bm).scatter_(1, second_Bm, index_Bm)
        stages.append(joined_Bn.gather(1, stages[-1]))
    return torch.stack(stages[::-1], dim=1)


def _inverse(order_BL: Tensor) -> Tensor:
    """The inverse of every row's permutation."""
    index_BL = torch.arange(order_BL.shape[1], device=order_BL.device).expand_as(order_BL)
    return torch.empty_like(order_BL).scatter_(1, order_BL, index_BL)


def _match_pairs(distance_Bnn: Tensor, tie_break: TieBreak) -> Tensor:
    """Pair all clusters of a level; returns the ``n / 2`` keys of the pairs per image in increasing order."""
    count = distance_Bnn.shape[-1]
    bits = count.bit_length() - 1
    index_n = torch.arange(count, device=distance_Bnn.device)
    low_nn = torch.minimum(index_n[:, None], index_n[None, :])
    if tie_break == "xor":
        tie_nn = ((index_n[:, None] ^ index_n[None, :]) << bits) + low_nn
    else:
        tie_nn = (low_nn << bits) + torch.maximum(index_n[:, None], index_n[None, :])
    keys_Brr = (distance_Bnn << (2 * bits)) + tie_nn
    keys_Brr.diagonal(dim1=1, dim2=2).fill_(_NO_EDGE)

    index_Br = index_n.expand(len(distance_Bnn), count)
    nearest_Bn = torch.full_like(index_Br, _NO_EDGE)
    while index_Br.shape[1]:
        # Keys are unique, so two clusters are each other's nearest neighbours exactly if their rows have the same minimum.
        nearest_Br = keys_Brr.amin(-1)
        valid_Br = nearest_Br != _NO_EDGE
        # Padding rows keep the key they were matched with.
        nearest_Br = nearest_Br.where(valid_Br, nearest_Bn.gather(1, index_Br))
        nearest_Bn = nearest_Bn.scatter(1, index_Br, nearest_Br)
        first_Br, second_Br, _ = _decode(nearest_Br, count, tie_break)
        partner_Br = first_Br + second_Br - index_Br
        open_Br = valid_Br & (nearest_Bn.gather(1, partner_Br) != nearest_Br)
        index_Br, keys_Brr = _keep_open(index_Br, keys_Brr, open_Br)
    return nearest_Bn.sort(dim=1).values[:, ::2]


def _keep_open(index_Br: Tensor, keys_Brr: Tensor, open_Br: Tensor) -> tuple[Tensor, Tensor]:
    """Drop the rows and columns of matched clusters; images with fewer open ones than others are padded with no edges."""
    remaining = int(open_Br.sum(1).amax())
    keep_Br = open_Br.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :remaining]
    open_Br = open_Br.gather(1, keep_Br)
    keys_Brr = _rows(keys_Brr, keep_Br).gather(2, keep_Br[:, None, :].expand(-1, remaining, -1))
    keys_Brr = keys_Brr.masked_fill(~(open_Br[:, :, None] & open_Br[:, None, :]), _NO_EDGE)
    return index_Br.gather(1, keep_Br), keys_Brr


def _rows(matrix_Bnn: Tensor, index_Bm: Tensor) -> Tensor:
    """Selected rows of each image's matrix, copied whole (several times faster than a gather)."""
    batch, count, width = matrix_Bnn.shape
    offset_B = torch.arange(0, batch * count, count, device=index_Bm.device)
    return matrix_Bnn.reshape(-1, width).index_select(0, (index_Bm + offset_B[:, None]).flatten()).view(batch, -1, width)


def _decode(keys: Tensor, count: int, tie_break: TieBreak) -> tuple[Tensor, Tensor, Tensor]:
    """Lower cluster, higher cluster and squared distance of pairs, from their keys."""
    bits = count.bit_length() - 1
    high, low = (keys >> bits) & (count - 1), keys & (count - 1)
    if tie_break == "xor":
        return low, low ^ high, keys >> (2 * bits)
    return high, low, keys >> (2 * bits)


def _join(distance_Bnn: Tensor, first_Bm: Tensor, second_Bm: Tensor, within_Bm: Tensor) -> Tensor:
    """Squared distances between the sums of pairs, from those between their members."""
    either_Bmn = _rows(distance_Bnn, first_Bm) + _rows(distance_Bnn, second_Bm)
    first_Bmm = first_Bm[:, None, :].expand(-1, first_Bm.shape[1], -1)
    second_Bmm = second_Bm[:, None, :].expand(-1, first_Bm.shape[1], -1)
    across_Bmm = either_Bmn.gather(2, first_Bmm) + either_Bmn.gather(2, second_Bmm)
    return across_Bmm - within_Bm[:, :, None] - within_Bm[:, None, :]


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


def _reorder_children(finest_BL: Tensor, stages: int, group_size: int, generator: torch.Generator | None) -> Tensor:
    """Renumber siblings at each stage: randomly if a generator is given, else by their first member in raster order."""
    batch, length = finest_BL.shape
    position_BL = _inverse(finest_BL)
    renamed_Bn = finest_BL.new_zeros((batch, 1))
    for stage in range(1, stages):
        count = group_size**stage
        if generator is None:
            key_Bn = position_BL.view(batch, count, length // count).amin(-1)
        else:
            key_Bn = torch.rand((batch, count), generator=generator, device=generator.device).to(finest_BL.device)
        rank_Bnk = key_Bn.view(batch, count // group_size, group_size).argsort(dim=-1, stable=True).argsort(dim=-1)
        renamed_Bn = (renamed_Bn[:, :, None] * group_size + rank_Bnk).flatten(1)
    return renamed_Bn.gather(1, finest_BL)
