"""The error of recall: the delete-d jackknife (Shao and Wu 1989), leaving out a third of the images at once.

Recall is not a mean over generated images: a ball reaches to its image's third neighbour among the images themselves, so that
leaving one out enlarges the balls of others. In simulations with 8 to 128 features, the estimated error was 0.7 to 0.85 times
the true one with radii held fixed (from 32 features on), 1.3 to 1.55 times with single images left out and growing balls, as
recall is not a smooth function of them, and 1.0 to 1.13 times with a third left out.

Shape letters: N generated images, M reference images, n neighbours per image, c candidates per reference image, R subsets,
b bytes that hold one bit per subset.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvgbench.metrics.arrays import Floats
from nvgbench.metrics.uncertainty import deviations

SUBSETS = 200
"""Number of subsets: the error's own error is 5 %."""
LEFT_OUT = 1 / 3
_SEED = 0
"""Two models with equally many images are evaluated on the same subsets, so that what paired images share cancels."""
_TIE = 1e-6
"""Distances that differ by less than this, relatively, are equal."""


def recall_contributions(
    own_Nn: NDArray[np.float32],
    index_Nn: NDArray[np.int64],
    distance_Mc: NDArray[np.float32],
    index_Mc: NDArray[np.int64],
    k: int,
) -> Floats:
    """Contributions ``[R]`` to recall's error, one per subset: the sum of their squares is the squared standard error.

    All are 0 if nothing is reached or if there are too few images to leave any out; then they say nothing.

    Args:
        own_Nn: squared distances of every generated image to its nearest others, ascending; a few times ``k`` of them.
        index_Nn: their indices.
        distance_Mc: squared distances of every reference image to the generated images that reach it most easily.
        index_Mc: their indices.
        k: the neighbour whose distance is the radius.
    """
    n, depth = own_Nn.shape
    kept = max(round(n * (1 - LEFT_OUT)), k + 1)
    if kept >= n:
        return np.zeros(SUBSETS)
    # A ball reaches a reference image if fewer than k neighbours of its centre are nearer than that.
    nearer_Mc = sum((own_Nn[index_Mc, rank] < distance_Mc * (1 - _TIE)).astype(np.int64) for rank in range(depth))
    if not (nearer_Mc < k).any():
        # The larger balls of a subset may reach a few; that does not measure how far from 0 other images would be.
        return np.zeros(SUBSETS)
    here_NR = _subsets(n, kept)
    # All subsets at once, one bit each: those in which a ball reaches past the neighbours counted so far.
    reaching = []
    nearer_here_NR = np.zeros((n, SUBSETS), dtype=np.int16)
    for rank in range(depth):
        reaching.append(np.packbits(here_NR & (nearer_here_NR < k), axis=1))
        nearer_here_NR += here_NR[index_Nn[:, rank]]
    reaching.append(np.zeros_like(reaching[0]))  # nothing reaches beyond the known neighbours
    reached_Mb = np.bitwise_or.reduce(np.stack(reaching)[nearer_Mc, index_Mc], axis=1)
    recall_R = np.unpackbits(reached_Mb, axis=1, count=SUBSETS).mean(axis=0)
    # A subset of m of n images has (1 - m / n) / m of an image's variance, the whole set 1 / n.
    scale = kept / (n - kept)
    return np.sqrt(scale / (SUBSETS - 1)) * deviations(recall_R)


def _subsets(n: int, kept: int) -> NDArray[np.bool_]:
    """Which of ``n`` images each subset of ``kept`` images contains, bool ``[N, R]``."""
    rng = np.random.default_rng(_SEED)
    here_RN = np.zeros((SUBSETS, n), dtype=bool)
    for here_N in here_RN:
        here_N[rng.permutation(n)[:kept]] = True
    # Accessed image by image, all subsets of one image at once.
    return np.ascontiguousarray(here_RN.T)
