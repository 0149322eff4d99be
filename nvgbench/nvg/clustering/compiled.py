"""The hierarchy of one image after another, compiled by numba: the fastest way on a CPU.

Nearest-neighbour chains instead of rounds: follow nearest neighbours until two are each other's, join these, continue with
what is left of the chain. Keys are unique, so this joins the same pairs as the sequential loop, with at most 3n/2 searches of
a row per level on any input. Numbers are integers throughout: no order of summation, no fast-math.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvgbench.nvg.clustering.batched import TieBreak

MAX_POSITIONS = math.inf
_NO_EDGE = np.iinfo(np.int64).max


def _compile(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the interpreter lock, and keep the machine code on disk if there is a directory for it."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither the package's directory nor the user's cache can be written to
        return numba.njit(nogil=True)(function)


def finest_maps(points_BLC: Tensor, tie_break: TieBreak) -> Tensor:
    """The last structure map ``[B, L]`` (int64) of integer points, on as many threads as torch uses."""
    gram_BLL = (points_BLC @ points_BLC.transpose(1, 2)).numpy()
    finest_BL = np.empty(points_BLC.shape[:2], np.int64)
    threads = min(torch.get_num_threads(), len(gram_BLL))
    if threads == 1:
        _build(gram_BLL, tie_break == "xor", finest_BL)
    else:
        with ThreadPoolExecutor(threads) as pool:
            shares = zip(np.array_split(gram_BLL, threads), np.array_split(finest_BL, threads), strict=True)
            list(pool.map(lambda share: _build(share[0], tie_break == "xor", share[1]), shares))
    return torch.from_numpy(finest_BL)


@_compile
def _write_keys(distance_n: NDArray[np.int64], i: int, bits: int, xor: bool, key_n: NDArray[np.int64]) -> None:
    """Keys of the edges of cluster i, from their squared distances. Two loops, so that the compiler vectorises both."""
    if xor:
        for j in range(len(distance_n)):
            key_n[j] = (distance_n[j] << (2 * bits)) + ((i ^ j) << bits) + min(i, j)
    else:
        for j in range(len(distance_n)):
            key_n[j] = (distance_n[j] << (2 * bits)) + (min(i, j) << bits) + max(i, j)


@_compile
def _ends(key: int, bits: int, xor: bool) -> tuple[int, int]:
    """Lower and higher cluster of an edge."""
    high, low = (key >> bits) & ((1 << bits) - 1), key & ((1 << bits) - 1)
    if xor:
        return low, low ^ high
    return high, low


@_compile
def _keys_of_positions(gram_LL: NDArray[np.float64], bits: int, xor: bool) -> NDArray[np.int64]:
    """Keys between single positions, in the memory of their inner products."""
    key_LL = gram_LL.view(np.int64)
    square_L = np.diag(gram_LL).copy()
    distance_L = np.empty(len(gram_LL), np.int64)
    for i in range(len(gram_LL)):
        for j in range(len(gram_LL)):
            distance_L[j] = np.int64(square_L[i] + square_L[j] - 2 * gram_LL[i, j])
        _write_keys(distance_L, i, bits, xor, key_LL[i])
    return key_LL


@_compile
def _match(key_nn: NDArray[np.int64], bits: int, xor: bool) -> NDArray[np.int64]:
    """Keys ``[n / 2]`` of the pairs of a level, in the order of joining."""
    count = 1 << bits
    closed_n = np.zeros(count, np.int64)  # all bits but the sign: matched already
    chain_n = np.empty(count, np.int64)
    pair_m = np.empty(count // 2, np.int64)
    length = start = pairs = 0
    while pairs < count // 2:
        if length == 0:
            while closed_n[start]:
                start += 1
            chain_n[0] = start
            length = 1
        end = chain_n[length - 1]
        closed_n[end] = _NO_EDGE
        smallest = _NO_EDGE
        for j in range(count):
            smallest = min(smallest, key_nn[end, j] | closed_n[j])
        low, high = _ends(smallest, bits, xor)
        nearest = low + high - end
        if length > 1 and chain_n[length - 2] == nearest:
            closed_n[nearest] = _NO_EDGE
            pair_m[pairs] = smallest
            pairs += 1
            length -= 2
        else:
            closed_n[end] = 0
            chain_n[length] = nearest
            length += 1
    pair_m.sort()
    return pair_m


@_compile
def _join(key_nn: NDArray[np.int64], pair_m: NDArray[np.int64], bits: int, xor: bool, joined_mm: NDArray[np.int64]) -> None:
    """Keys between the sums of pairs, from those between their members."""
    either_n, joined_m = np.empty(2 * len(pair_m), np.int64), np.empty_like(pair_m)
    first_m, second_m = np.empty(len(pair_m), np.uint64), np.empty(len(pair_m), np.uint64)
    within_m = pair_m >> (2 * bits)
    for p in range(len(pair_m)):
        first_m[p], second_m[p] = _ends(pair_m[p], bits, xor)
    for p in range(len(pair_m)):
        for j in range(len(either_n)):
            either_n[j] = (key_nn[first_m[p], j] >> (2 * bits)) + (key_nn[second_m[p], j] >> (2 * bits))
        for q in range(len(pair_m)):
            joined_m[q] = either_n[first_m[q]] + either_n[second_m[q]] - within_m[p] - within_m[q]
        _write_keys(joined_m, p, bits - 1, xor, joined_mm[p])


@_compile
def _build(gram_BLL: NDArray[np.float64], xor: bool, finest_BL: NDArray[np.int64]) -> None:
    """Write the last structure map of each image.

    Args:
        gram_BLL: inner products of integer points, exact in float64; overwritten.
        xor: whether ties are broken by (i xor j, i), or else by (i, j).
        finest_BL: the result.
    """
    batch, length = finest_BL.shape
    top = 0
    while 1 << top < length:
        top += 1
    joined_mm = np.empty((length // 2, length // 2), np.int64)
    cluster_L = np.empty(length, np.int64)
    place_L = np.empty(length, np.int64)
    for image in range(batch):
        for position in range(length):
            cluster_L[position] = position
            finest_BL[image, position] = 0
        key_nn, joined_nn = _keys_of_positions(gram_BLL[image], top, xor), joined_mm
        for level in range(top):
            pair_m = _match(key_nn, top - level, xor)
            _join(key_nn, pair_m, top - level, xor, joined_nn)
            key_nn, joined_nn = joined_nn, key_nn
            for pair in range(len(pair_m)):
                first, second = _ends(pair_m[pair], top - level, xor)
                place_L[first], place_L[second] = 2 * pair, 2 * pair + 1
            for position in range(length):
                # The label's bit of this level: 0 for the first of its pair, 1 for the second.
                place = place_L[cluster_L[position]]
                finest_BL[image, position] |= (place & 1) << level
                cluster_L[position] = place >> 1
