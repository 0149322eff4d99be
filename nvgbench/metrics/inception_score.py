"""The Inception Score exp(E KL(p(y|x) || p(y))) (Salimans et al. 2016, section 4), from class logits.

Shape letters: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, xlogy

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import Floats, as_matrix
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.uncertainty import Contributions, leave_one_out
from nvgbench.results.scores import SCORES

SPLIT_SIZE = 5000
FIDELITY_SPLITS = 10
FIDELITY_SEED = 2020
"""Splits and shuffle of torch-fidelity's defaults."""
_FEWEST_FOR_ERROR = 3
"""Images per split that an error needs: one image scores 1 whatever it shows, so leaving out one of two does not count."""


@dataclass(frozen=True)
class InceptionScore:
    """Mean and standard deviation (ddof 0) of the scores of the splits."""

    mean: float
    std: float
    splits: int


class InceptionScoreMetric:
    """IS in ten splits (or as many as asked for), shuffled and cut as torch-fidelity does.

    Above one split of 5,000 images also in the order given.
    """

    scores = (SCORES["IS"], SCORES["IS-ordered"])
    fewest_images = 1

    def compute(self, inputs: MetricInputs) -> Mapping[str, Contributions]:
        logits_NK = inputs.generated.logits_NK
        if not logits_NK.shape[1]:
            return {}
        n = len(logits_NK)
        found = {"IS": score_in_order(logits_NK[fidelity_order(n)], splits=min(inputs.is_splits, n))}
        if n > SPLIT_SIZE:
            found["IS-ordered"] = score_in_order(logits_NK)
        return found


def score_in_order(logits_NK: Any, *, splits: int | None = None) -> Contributions:
    """The score with its error, splits cut in the order given; see `inception_score`."""
    score = inception_score(logits_NK, splits=splits, shuffle_seed=None)
    log_p = log_softmax(np.asarray(logits_NK, dtype=np.float64), axis=1)
    return Contributions(value=score.mean, parts=inception_contributions(log_p, splits=splits))


def inception_score(
    logits: Any, *, splits: int | None = None, split_size: int = SPLIT_SIZE, shuffle_seed: int | None = 0
) -> InceptionScore:
    """The score of N images.

    Args:
        logits: ``[N, K]``, before the softmax.
        splits: number of parts of nearly equal size (10 in torch-fidelity and the original code). If not given, parts have
            ``split_size`` images and a shorter last one, as in OpenAI's guided-diffusion evaluator.
        split_size: images per part; ignored if ``splits`` is given.
        shuffle_seed: seed of the shuffle before the cut; ``None`` keeps the order given, which makes the score of files sorted
            by class meaningless.

    Raises:
        InputError: not a finite matrix, or fewer images than splits.
    """
    log_p = log_softmax(as_matrix(logits, "logits"), axis=1)
    parts = split_bounds(len(log_p), splits, split_size)
    if shuffle_seed is not None:
        log_p = log_p[np.random.default_rng(shuffle_seed).permutation(len(log_p))]
    scores = [split_score(log_p[low:high]) for low, high in parts]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), len(scores))


def inception_contributions(log_p: Floats, *, splits: int | None = None, split_size: int = SPLIT_SIZE) -> Floats:
    """Contribution of each image ``[N]`` to the error of the score; all 0 if a split has fewer than three images.

    Args:
        log_p: log-probabilities ``[N, K]`` in the order in which they are split.
        splits, split_size: as for `inception_score`.
    """
    bounds = split_bounds(len(log_p), splits, split_size)
    if min(high - low for low, high in bounds) < _FEWEST_FOR_ERROR:
        return np.zeros(len(log_p))
    return np.concatenate([_split_contributions(log_p[low:high]) / len(bounds) for low, high in bounds])


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


def split_score(log_p: Floats) -> float:
    """The score of one split: mean KL = mean_i sum_k p log p - sum_k q log q."""
    p = np.exp(log_p)
    ones = np.ones((1, len(p)))
    marginal_1K = ones @ p / len(p)
    negative_entropy = ones @ (p * log_p).sum(axis=1, keepdims=True) / len(p)
    return float(np.exp(negative_entropy[:, 0] - xlogy(marginal_1K, marginal_1K).sum(axis=1))[0])


def _split_contributions(log_p: Floats) -> Floats:
    n = len(log_p)
    p = np.exp(log_p)
    negative_entropy_N = (p * log_p).sum(axis=1)
    marginal_NK = (p.sum(axis=0) - p).clip(min=0) / (n - 1)
    without_N = (negative_entropy_N.sum() - negative_entropy_N) / (n - 1)
    return leave_one_out(np.exp(without_N - xlogy(marginal_NK, marginal_NK).sum(axis=1)))
