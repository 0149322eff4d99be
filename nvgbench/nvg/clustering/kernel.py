"""The hierarchy on a GPU as one Triton kernel: a program builds the whole hierarchy of one image.

Rounds of mutual nearest neighbours as in `batched`, but a round searches only the rows that lost their nearest neighbour in
the last one. What the threads of a program exchange goes through global memory, with a barrier between writing and reading.
Launches, not arithmetic, took the time of the tensor operations at small batches; here there is one.

Shape letters: B batch, L positions (LENGTH), C latent channels, n clusters of a level, R rows searched at once (ROWS).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from nvgbench.nvg.clustering.batched import TieBreak, squared_distances

MAX_POSITIONS = 1024  # tiles of longer rows leave the registers
_TILE_ENTRIES = 4096
_WARPS = 8
_NO_EDGE = tl.constexpr(2**63 - 1)


def finest_maps(points_BLC: Tensor, tie_break: TieBreak, *, warps: int = _WARPS, tile: int = _TILE_ENTRIES) -> Tensor:
    """The last structure map ``[B, L]`` (int64) of integer points, for L up to `MAX_POSITIONS`."""
    batch, length, _ = points_BLC.shape
    distance_BLL = squared_distances(points_BLC)
    joined_Bmm = distance_BLL.new_empty((batch, length // 2, length // 2))
    shared_B3L = distance_BLL.new_empty((batch, 3, length))
    finest_BL = distance_BLL.new_empty((batch, length))
    with torch.cuda.device_of(points_BLC):
        _build[(batch,)](
            distance_BLL, joined_Bmm, shared_B3L, finest_BL, bits=length.bit_length() - 1,
            LENGTH=length, ROWS=min(length, tile // length), XOR=tie_break == "xor", num_warps=warps, num_stages=1,
        )  # fmt: skip
    return finest_BL


# A loop counts "bits" down, which must not become a constant where it is 1.
@triton.jit(do_not_specialize=["bits"])
def _build(distance_BLL, joined_Bmm, shared_B3L, finest_BL, bits, LENGTH: tl.constexpr, ROWS: tl.constexpr, XOR: tl.constexpr):
    """Overwrites ``distance_BLL`` (levels 0, 2 …) and ``joined_Bmm`` (levels 1, 3 …) with the distances of the levels."""
    image = tl.program_id(0).to(tl.int64)
    here = distance_BLL + image * LENGTH * LENGTH
    there = joined_Bmm + image * (LENGTH // 2) * (LENGTH // 2)
    nearest = shared_B3L + image * 3 * LENGTH
    index_L = tl.arange(0, LENGTH)
    cluster_L = index_L
    finest_L = tl.zeros([LENGTH], tl.int64)
    level = 0
    while bits > 0:
        _match(here, nearest, nearest + LENGTH, bits, LENGTH, ROWS, XOR)
        _number(nearest, nearest + LENGTH, bits, LENGTH, ROWS, XOR)
        place_L = tl.load(nearest + 2 * LENGTH + cluster_L)
        finest_L |= (place_L & 1) << level
        cluster_L = (place_L >> 1).to(tl.int32)
        _join(here, there, nearest + LENGTH, bits, LENGTH, ROWS)
        swapped = here
        here = there
        there = swapped
        bits -= 1
        level += 1
    tl.store(finest_BL + image * LENGTH + index_L, finest_L)


@triton.jit
def _match(here, nearest, rows, bits, LENGTH: tl.constexpr, ROWS: tl.constexpr, XOR: tl.constexpr):
    """Write the key of each cluster's pair to ``nearest``."""
    index_L = tl.arange(0, LENGTH)
    count = 1 << bits
    open_L = index_L < count
    stale_L = open_L
    searched = count
    while searched > 0:
        tl.store(rows + tl.cumsum(stale_L.to(tl.int32), 0) - 1, index_L.to(tl.int64), mask=stale_L)
        tl.debug_barrier()
        for begin in range(0, searched, ROWS):
            slot_R = begin + tl.arange(0, ROWS)
            row_R = tl.load(rows + slot_R, mask=slot_R < searched, other=0)
            edge_RL = open_L[None, :] & (index_L[None, :] != row_R[:, None])
            distance_RL = tl.load(here + row_R[:, None] * count + index_L[None, :], mask=edge_RL, other=0)
            key_RL = (distance_RL << (2 * bits)) + _tie(row_R[:, None], index_L[None, :].to(tl.int64), bits, XOR)
            tl.store(nearest + row_R, tl.min(tl.where(edge_RL, key_RL, _NO_EDGE), axis=1), mask=slot_R < searched)
        tl.debug_barrier()
        # Keys are unique: two clusters are each other's nearest neighbours exactly if they have the same key.
        key_L = tl.load(nearest + index_L, mask=open_L, other=0)
        partner_L = _other_end(key_L, index_L, bits, XOR)
        partner_key_L = tl.load(nearest + partner_L, mask=open_L, other=0)
        third_L = _other_end(partner_key_L, partner_L, bits, XOR)
        partner_matched_L = tl.load(nearest + third_L, mask=open_L, other=0) == partner_key_L
        open_L = open_L & (partner_key_L != key_L)
        # The nearest neighbour of the others is still there, so their key stands.
        stale_L = open_L & partner_matched_L
        searched = tl.sum(stale_L.to(tl.int32), axis=0)


@triton.jit
def _number(nearest, members, bits, LENGTH: tl.constexpr, ROWS: tl.constexpr, XOR: tl.constexpr):
    """Number the pairs in the order of joining.

    Writes the first members of the pairs to ``members``, the second ones half a row later, and for each cluster twice the
    number of its pair, plus one for the second member, a row later.
    """
    index_L = tl.arange(0, LENGTH)
    count = 1 << bits
    key_L = tl.load(nearest + index_L, mask=index_L < count, other=0)
    smaller_L = tl.zeros([LENGTH], tl.int32)
    for begin in range(0, count, ROWS):
        other_R = begin + tl.arange(0, ROWS)
        other_key_R = tl.load(nearest + other_R, mask=other_R < count, other=_NO_EDGE)
        smaller_L += tl.sum((other_key_R[:, None] < key_L[None, :]).to(tl.int32), axis=0)
    pair_L = smaller_L // 2  # both members have the key
    second_L = (index_L > _other_end(key_L, index_L, bits, XOR)).to(tl.int64)
    tl.store(members + second_L * (LENGTH // 2) + pair_L, index_L.to(tl.int64), mask=index_L < count)
    tl.store(members + LENGTH + index_L, 2 * pair_L + second_L, mask=index_L < count)
    tl.debug_barrier()


@triton.jit
def _join(here, there, members, bits, LENGTH: tl.constexpr, ROWS: tl.constexpr):
    """Squared distances between the sums of pairs, from those between their members."""
    HALF: tl.constexpr = LENGTH // 2
    pairs = 1 << (bits - 1)
    column_M = tl.arange(0, HALF)
    first_M = tl.load(members + column_M, mask=column_M < pairs, other=0)
    second_M = tl.load(members + HALF + column_M, mask=column_M < pairs, other=0)
    within_M = tl.load(here + first_M * (2 * pairs) + second_M, mask=column_M < pairs, other=0)
    for begin in range(0, pairs, ROWS):
        row_R = begin + tl.arange(0, ROWS)
        first_R = tl.load(members + row_R, mask=row_R < pairs, other=0)
        second_R = tl.load(members + HALF + row_R, mask=row_R < pairs, other=0)
        within_R = tl.load(here + first_R * (2 * pairs) + second_R, mask=row_R < pairs, other=0)
        inside_RM = (row_R[:, None] < pairs) & (column_M[None, :] < pairs)
        from_first_RM = here + first_R[:, None] * (2 * pairs)
        from_second_RM = here + second_R[:, None] * (2 * pairs)
        across_RM = tl.load(from_first_RM + first_M[None, :], mask=inside_RM, other=0)
        across_RM += tl.load(from_first_RM + second_M[None, :], mask=inside_RM, other=0)
        across_RM += tl.load(from_second_RM + first_M[None, :], mask=inside_RM, other=0)
        across_RM += tl.load(from_second_RM + second_M[None, :], mask=inside_RM, other=0)
        joined_RM = across_RM - within_R[:, None] - within_M[None, :]
        tl.store(there + row_R[:, None] * pairs + column_M[None, :], joined_RM, mask=inside_RM)
    tl.debug_barrier()


@triton.jit
def _tie(i, j, bits, XOR: tl.constexpr):
    """The part of a key that decides between equal distances, and names the clusters."""
    if XOR:
        return ((i ^ j) << bits) + tl.minimum(i, j)
    return (tl.minimum(i, j) << bits) + tl.maximum(i, j)


@triton.jit
def _other_end(key, i, bits, XOR: tl.constexpr):
    """The cluster that the edge ``key`` of cluster i leads to."""
    low_bits = (1 << bits) - 1
    high, low = (key >> bits) & low_bits, key & low_bits
    if XOR:
        return high ^ i
    return high + low - i
