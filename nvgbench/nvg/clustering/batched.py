"""The hierarchy of a batch of images in rounds of tensor operations: on any device, without a compiler.

Shape letters: B batch, L positions in raster order, C latent channels, n clusters of a level, m pairs, r unmatched clusters.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

TieBreak = Literal["xor", "index"]

_NO_EDGE = torch.iinfo(torch.int64).max


def finest_maps(points_BLC: Tensor, tie_break: TieBreak) -> Tensor:
    """The last structure map ``[B, L]`` of the binary hierarchy of integer points."""
    levels = matched_levels(points_BLC, tie_break)
    # Top-down: clusters of a level are numbered in the order of joining, so first < second is also the order of children.
    order_Bn = levels[-1][0].new_zeros((len(points_BLC), 1))
    for first_Bm, second_Bm in reversed(levels):
        order_Bn = torch.stack((first_Bm.gather(1, order_Bn), second_Bm.gather(1, order_Bn)), dim=2).flatten(1)
    return inverse_permutation(order_Bn)


def squared_distances(points_BLC: Tensor) -> Tensor:
    """Squared distances ``[B, L, L]`` of integer points as int64."""
    squares_BL = points_BLC.square().sum(-1)
    sums_BLL = squares_BL[:, :, None] + squares_BL[:, None, :]
    return torch.baddbmm(sums_BLL, points_BLC, points_BLC.transpose(1, 2), alpha=-2).to(torch.int64)


def matched_levels(points_BLC: Tensor, tie_break: TieBreak) -> list[tuple[Tensor, Tensor]]:
    """The pairs joined at each level, finest first: first and second cluster ``[B, n / 2]``, in the order of joining."""
    distance_Bnn = squared_distances(points_BLC)
    levels: list[tuple[Tensor, Tensor]] = []
    while distance_Bnn.shape[-1] > 1:
        keys_Bm = _match_pairs(distance_Bnn, tie_break)
        first_Bm, second_Bm, within_Bm = _decode(keys_Bm, distance_Bnn.shape[-1], tie_break)
        levels.append((first_Bm, second_Bm))
        distance_Bnn = _join(distance_Bnn, first_Bm, second_Bm, within_Bm)
    return levels


def inverse_permutation(order_BL: Tensor) -> Tensor:
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
