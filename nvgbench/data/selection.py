"""Which images of a source belong to a split, and in what order."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

HELD_OUT = "a tenth of each class held out by hash"


def held_out(keys: Sequence[str], labels: np.ndarray) -> np.ndarray:
    """Bool ``[N]``: of each class the tenth of the keys with the smallest SHA-256, whatever their order.

    At least one image of each class is held out, but never its last: a class with a single image keeps it for training.

    Args:
        keys: one per image, all different.
        labels: int64 ``[N]``.
    """
    digests = [hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest() for key in keys]
    order = sorted(range(len(keys)), key=lambda i: (labels[i], digests[i], keys[i]))
    counts = Counter(labels.tolist())
    left = {label: min(max(1, round(count / 10)), count - 1) for label, count in counts.items()}
    out = np.zeros(len(keys), dtype=bool)
    for i in order:
        label = int(labels[i])
        out[i] = left[label] > 0
        left[label] -= 1
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
