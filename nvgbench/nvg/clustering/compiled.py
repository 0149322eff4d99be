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
def _squared_distances(gram_LL: NDArray[np.float64], distance_LL: NDArray[np.int64]) -> None:
    length = len(gram_LL)
    square_L = np.empty(length)
    for i in range(length):
        square_L[i] = gram_LL[i, i]
    for i in range(length):
        for j in range(length):
            distance_LL[i, j] = np.int64(square_L[i] + square_L[j] - 2 * gram_LL[i, j])


@_compile
def _matched_pairs(distance_nn: NDArray[np.int64], count: int, xor: bool) -> tuple[NDArray[np.int64], ...]:
    """Lower cluster, higher cluster and squared distance of the pairs of a level, in the order of joining."""
    bits = 0
    while 1 << bits < count:
        bits += 1
    closed_n = np.zeros(count, np.int64)  # all bits set: matched already
    chain_n = np.empty(count, np.int64)
    key_m = np.empty(count // 2, np.int64)
    length = start = pairs = 0
    while pairs < len(key_m):
        if length == 0:
            while closed_n[start]:
                start += 1
            chain_n[0] = start
            length = 1
        end = chain_n[length - 1]
        closed_n[end] = _NO_EDGE
        key = _smallest_key(distance_nn[end, :count], closed_n, end, bits, xor)
        low, high = _ends(key, bits, xor)
        nearest = low + high - end
        if length > 1 and chain_n[length - 2] == nearest:
            closed_n[nearest] = _NO_EDGE
            key_m[pairs] = key
            pairs += 1
            length -= 2
        else:
            closed_n[end] = 0
            chain_n[length] = nearest
            length += 1
    key_m.sort()
    first_m = np.empty_like(key_m)
    second_m = np.empty_like(key_m)
    for pair in range(len(key_m)):
        first_m[pair], second_m[pair] = _ends(key_m[pair], bits, xor)
    return first_m, second_m, key_m >> (2 * bits)


@_compile
def _smallest_key(distance_n: NDArray[np.int64], closed_n: NDArray[np.int64], i: int, bits: int, xor: bool) -> int:
    smallest = _NO_EDGE
    if xor:
        for j in range(len(distance_n)):
            key = (distance_n[j] << (2 * bits)) + ((i ^ j) << bits) + min(i, j)
            smallest = min(smallest, key | closed_n[j])
    else:
        for j in range(len(distance_n)):
            key = (distance_n[j] << (2 * bits)) + (min(i, j) << bits) + max(i, j)
            smallest = min(smallest, key | closed_n[j])
    return smallest


@_compile
def _ends(key: int, bits: int, xor: bool) -> tuple[int, int]:
    """Lower and higher cluster of an edge."""
    mask = (1 << bits) - 1
    high, low = (key >> bits) & mask, key & mask
    if xor:
        return low, low ^ high
    return high, low


@_compile
def _join(
    distance_nn: NDArray[np.int64],
    count: int,
    first_m: NDArray[np.int64],
    second_m: NDArray[np.int64],
    within_m: NDArray[np.int64],
    joined_mm: NDArray[np.int64],
) -> None:
    """Squared distances between the sums of pairs, from those between their members."""
    either_n = np.empty(count, np.int64)
    for p in range(len(first_m)):
        for j in range(count):
            either_n[j] = distance_nn[first_m[p], j] + distance_nn[second_m[p], j]
        for q in range(len(first_m)):
            joined_mm[p, q] = either_n[first_m[q]] + either_n[second_m[q]] - within_m[p] - within_m[q]


@_compile
def _descend(
    first_m: NDArray[np.int64],
    second_m: NDArray[np.int64],
    cluster_L: NDArray[np.int64],
    finest_L: NDArray[np.int64],
    level: int,
) -> None:
    """Give each position the label's bit of this level (0: first of its pair), and move it to the joined cluster."""
    place_n = np.empty(2 * len(first_m), np.int64)
    for pair in range(len(first_m)):
        place_n[first_m[pair]] = 2 * pair
        place_n[second_m[pair]] = 2 * pair + 1
    for position in range(len(cluster_L)):
        place = place_n[cluster_L[position]]
        finest_L[position] |= (place & 1) << level
        cluster_L[position] = place >> 1


@_compile
def _build(gram_BLL: NDArray[np.float64], xor: bool, finest_BL: NDArray[np.int64]) -> None:
    """Write the last structure map of each image.

    Args:
        gram_BLL: inner products of integer points, exact in float64.
        xor: whether ties are broken by (i xor j, i), or else by (i, j).
        finest_BL: the result.
    """
    batch, length = finest_BL.shape
    distance_LL = np.empty((length, length), np.int64)
    other_mm = np.empty((length // 2, length // 2), np.int64)
    cluster_L = np.empty(length, np.int64)
    for image in range(batch):
        _squared_distances(gram_BLL[image], distance_LL)
        here, there = distance_LL, other_mm
        cluster_L[:] = np.arange(length)
        finest_BL[image] = 0
        count = length
        level = 0
        while count > 1:
            first_m, second_m, within_m = _matched_pairs(here, count, xor)
            _join(here, count, first_m, second_m, within_m, there)
            _descend(first_m, second_m, cluster_L, finest_BL[image], level)
            here, there = there, here
            count //= 2
            level += 1
