"""Which images of a source belong to a split, and in what order."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

HELD_OUT = "a tenth held out by hash"


def held_out(keys: Sequence[str]) -> np.ndarray:
    """Bool ``[N]``: the tenth of the keys (at least one) with the smallest SHA-256, whatever their order."""
    digests = [hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest() for key in keys]
    chosen = sorted(range(len(keys)), key=lambda i: (digests[i], keys[i]))[: max(1, round(len(keys) / 10))]
    out = np.zeros(len(keys), dtype=bool)
    out[chosen] = True
    return out


def round_robin(labels: np.ndarray) -> np.ndarray:
    """An order of ``labels`` (int64 ``[N]``) that cycles through the classes, so that every prefix of it is balanced."""
    by_class = np.argsort(labels, kind="stable")
    ordered = labels[by_class]
    rank = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    return by_class[np.lexsort((ordered, rank))]


def random_indices(count: int, limit: int, seed: int = 0) -> np.ndarray:
    """``limit`` of ``count`` indices in random order, all of them if there are fewer."""
    return np.random.default_rng(seed).permutation(count)[:limit]
