"""The Inception Score exp(E KL(p(y|x) || p(y))) (Salimans et al. 2016, section 4), from class logits.

Shape letters: N images, K classes, R replicates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, xlogy

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import Floats, as_matrix

SPLIT_SIZE = 5000
FIDELITY_SPLITS = 10
FIDELITY_SEED = 2020
"""Splits and shuffle of torch-fidelity's defaults."""


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation (ddof 0) of the scores of the splits."""

    mean: float
    std: float
    splits: int


def inception_score(
    logits: Any, *, splits: int | None = None, split_size: int = SPLIT_SIZE, shuffle_seed: int | None = 0
) -> InceptionScore:
    """The score of N images.

    Args:
        logits: ``[N, K]``, before the softmax.
        splits: cut into so many parts of nearly equal size (torch-fidelity and the original code: 10). Where it is not given,
            parts of ``split_size`` images with a shorter last one, as OpenAI's guided-diffusion evaluator cuts them.
        split_size: images a part; ignored where ``splits`` is given.
        shuffle_seed: seed of the shuffle before the cut; ``None`` keeps the order given, which makes the score of files sorted
            by class meaningless.

    Raises:
        InputError: not a finite matrix, or fewer images than splits.
    """
    log_p = log_softmax(as_matrix(logits, "logits"), axis=1)
    parts = split_bounds(len(log_p), splits, split_size)
    if shuffle_seed is not None:
        log_p = log_p[np.random.default_rng(shuffle_seed).permutation(len(log_p))]
    scores = [float(weighted_scores(log_p[low:high])[0]) for low, high in parts]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), len(scores))


def fidelity_order(count: int) -> NDArray[np.int64]:
    """The order ``[N]`` into which torch-fidelity shuffles before it cuts ten splits."""
    return np.random.RandomState(FIDELITY_SEED).permutation(count)


def split_bounds(count: int, splits: int | None, split_size: int) -> list[tuple[int, int]]:
    """First and last + 1 image of every split.

    Raises:
        InputError: fewer images than splits, or a split size below 1.
    """
    if splits is None:
        if split_size < 1:
            raise InputError(f"split_size = {split_size}; expected at least 1")
        return [(low, min(low + split_size, count)) for low in range(0, count, split_size)]
    if not 1 <= splits <= count:
        raise InputError(f"{splits} splits of {count} images; expected 1 to {count}")
    return [(i * count // splits, (i + 1) * count // splits) for i in range(splits)]


def weighted_scores(log_p: Floats, weights_RN: Floats | None = None) -> Floats:
    """Scores ``[R]`` of one split under R sets of image weights (all 1 where not given).

    Uses mean KL = mean_i sum_k p log p - sum_k q log q, so that a replicate costs one product with the matrix of probabilities.
    """
    p = np.exp(log_p)
    weights = np.ones((1, len(p))) if weights_RN is None else weights_RN
    total = weights.sum(axis=1, keepdims=True)
    marginal = weights @ p / total
    negative_entropy = weights @ (p * log_p).sum(axis=1, keepdims=True) / total
    return np.exp(negative_entropy[:, 0] - xlogy(marginal, marginal).sum(axis=1))
