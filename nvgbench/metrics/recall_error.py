"""How far recall moves with the images: the delete-d jackknife (Shao and Wu 1989), a third of the images left out at once.

Recall has no mean over generated images to take an error of: a ball reaches to its image's third neighbour among the images
themselves, so that leaving one out lets others' balls grow. Simulated with 8 to 128 features, the error came out 0.7 to 0.85
times the true one with radii held fixed (from 32 features on), 1.3 to 1.55 times with single images left out and balls that
grow, as recall is no smooth function of them, and 1.0 to 1.13 times with a third left out.

Shape letters: N generated images, M reference images, n neighbours of an image, c candidates of a reference image, R subsets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nvgbench.metrics.arrays import Floats

SUBSETS = 200
"""Subsets drawn: the error's own error is 5 %."""
LEFT_OUT = 1 / 3
_SEED = 0
"""Two models of equally many images are looked at through the same subsets, so that what paired images share cancels."""
_TIE = 1e-6
"""Distances closer than this, relatively, are the same."""


def recall_contributions(
    own_Nn: NDArray[np.float32],
    index_Nn: NDArray[np.int64],
    distance_Mc: NDArray[np.float32],
    index_Mc: NDArray[np.int64],
    k: int,
) -> Floats:
    """Contributions ``[R]`` to recall's error, one a subset: the sum of their squares is the squared standard error.

    All are 0 where nothing is reached, or where there are too few images to leave any out: then they say nothing.

    Args:
        own_Nn: squared distances of every generated image to its nearest others, the nearest first; a few times ``k`` of them.
        index_Nn: the numbers of those.
        distance_Mc: squared distances of every reference image to the generated images that reach it most easily.
        index_Mc: the numbers of those.
        k: which neighbour's distance is the radius.
    """
    n, depth = own_Nn.shape
    kept = max(round(n * (1 - LEFT_OUT)), k + 1)
    if kept >= n:
        return np.zeros(SUBSETS)
    # A ball reaches a reference image as long as fewer than k of its image's neighbours are nearer than that.
    nearer_Mc = sum((own_Nn[index_Mc, rank] < distance_Mc * (1 - _TIE)).astype(np.int64) for rank in range(depth))
    if not (nearer_Mc < k).any():
        # Larger balls of a subset may reach a few; that is no measure of how far from 0 other images would be.
        return np.zeros(SUBSETS)
    rng = np.random.default_rng(_SEED)
    recall_R = np.empty(SUBSETS)
    nearer_here_Nn = np.zeros((n, depth + 1), dtype=np.int16)
    for number in range(SUBSETS):
        here_N = np.zeros(n, dtype=bool)
        here_N[rng.permutation(n)[:kept]] = True
        np.cumsum(here_N[index_Nn], axis=1, out=nearer_here_Nn[:, 1:])
        # beyond the neighbours that are known nothing reaches
        reached_Mc = here_N[index_Mc] & (nearer_Mc < depth) & (nearer_here_Nn[index_Mc, nearer_Mc] < k)
        recall_R[number] = reached_Mc.any(axis=1).mean()
    # A subset of m of n images varies by (1 - m / n) / m of an image's variance, the whole set by 1 / n.
    scale = kept / (n - kept)
    return np.sqrt(scale / (SUBSETS - 1)) * (recall_R - recall_R.mean())
