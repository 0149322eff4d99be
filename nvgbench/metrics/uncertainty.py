"""A score with its error: what each image contributes, and the intervals and differences that follow. One mechanism for all.

The contribution of image i is sqrt((N - 1) / N) · (mean of the leave-one-out scores - score without image i). The sum of the
squared contributions is the squared standard error of the jackknife (Quenouille 1956, Tukey 1958; for functions such as recall
it is cautious rather than too small, Efron and Stein 1981). Contributions of paired images can be subtracted, which cancels
what two models have in common. A bootstrap would draw images twice: a Fréchet distance with fewer than about twenty images per
feature would then get an interval two to five times too wide.

Intervals cover other images from the same model. The reference is held fixed, as part of the protocol; what is covered is the
expected score at this number of images, which is what comparisons at equal N compare. Reconstructions and their originals vary
together (`nvgbench.metrics.frechet_pairs`). The tests measure the coverage.
Shape letters: N images, R replicates or subsets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import quantile_test

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import Floats
from nvgbench.types import Interval

LEVEL = 0.95
JACKKNIFE = "jackknife over generated images"
_NORMAL = 1.959964
_ROUNDING = 1e-12
"""Deviations below this share of the scores they are taken from are rounding errors."""


@dataclass(frozen=True, kw_only=True)
class Contributions:
    """The value of a score and where its error comes from.

    Attributes:
        value: the score.
        parts: contribution of each image ``[N]`` (or of each subset of images ``[R]``) to the error.
        other_variance: variance that does not come from the images, such as the draw of KID's subsets.
        method: how the error was computed.
        interval: an interval that suits the score better than value ± 1.96 standard errors, e.g. Wilson's for a share.
        degenerate: the interval to use if no image contributes: a score of 0 or 1 that leaving images out does not change says
            nothing about other images. None if nothing is known then.
        note: what a reader should know about the value.
    """

    value: float
    parts: Floats
    other_variance: float = 0.0
    method: str = JACKKNIFE
    interval: Interval | None = None
    degenerate: Interval | None = None
    note: str = ""

    @property
    def stderr(self) -> float | None:
        """Standard error over other images from the same model; None if no image contributes: what else varies is then known,
        but nothing about other images.
        """
        if not self.parts.any():
            return None
        return float(np.sqrt((self.parts**2).sum() + self.other_variance))


def interval_of(score: Contributions) -> Interval | None:
    """The 95 % interval of a score; None if its images say nothing about others."""
    if score.interval is not None:
        return score.interval
    if score.stderr is None:
        return score.degenerate
    return normal_interval(score.value, score.stderr, score.method)


def difference_error(first: Contributions, second: Contributions, *, paired: bool) -> float | None:
    """Standard error of ``second`` minus ``first``.

    Args:
        first, second: the same score of two sets of equally many images.
        paired: whether image i of both sets was drawn from the same noise and class.

    Returns:
        None if no image of one set contributes: such a set says nothing about other images.
    """
    if not first.parts.any() or not second.parts.any():
        return None
    parts = [second.parts - first.parts] if paired else [first.parts, second.parts]
    variance = sum(float((part**2).sum()) for part in parts)
    return float(np.sqrt(variance + first.other_variance + second.other_variance))


def leave_one_out(scores_N: Floats) -> Floats:
    """Contributions ``[N]`` from the score without each image."""
    n = len(scores_N)
    return np.sqrt((n - 1) / n) * -deviations(scores_N)


def contributions_to_mean(values_N: Any) -> Floats:
    """Contributions ``[N]`` to the mean of one number per image; at least two images."""
    numbers = np.asarray(values_N, dtype=np.float64)
    n = len(numbers)
    assert n > 1
    return deviations(numbers) / np.sqrt(n * (n - 1))


def deviations(values: Floats) -> Floats:
    """Deviations from the mean, exactly 0 where only rounding tells the values apart."""
    found = values - values.mean()
    found[np.abs(found) <= _ROUNDING * np.abs(values).max(initial=0.0)] = 0.0
    return found


def normal_interval(value: float, stderr: float, method: str) -> Interval:
    """value ± 1.96 standard errors."""
    return Interval(value - _NORMAL * stderr, value + _NORMAL * stderr, LEVEL, "sampling", method)


def share_interval(hits: Any) -> Interval:
    """Wilson's interval of a share from one 0 or 1 per image; unlike a bootstrap it does not shrink to a point at 0 and 1.

    Raises:
        InputError: no images.
    """
    numbers = np.asarray(hits)
    if len(numbers) < 1:
        raise InputError("a share of no images; expected at least 1")
    n = len(numbers)
    share = int(numbers.sum()) / n
    # SciPy's binomtest gives the same, after the search for a p-value that nobody asked for.
    z = float(ndtri((1 + LEVEL) / 2))
    centre, unit = (2 * n * share + z**2) / (2 * (n + z**2)), z / (2 * (n + z**2))
    reach = unit * math.sqrt(4 * n * share * (1 - share) + z**2)
    # Rounding must not put a share of exactly 0 or 1 outside, nor another number in place of the end.
    low, high = (0.0 if share == 0 else centre - reach), (1.0 if share == 1 else centre + reach)
    return Interval(min(low, share), max(high, share), LEVEL, "sampling", "Wilson")


def equal_terms_interval(value: float, n: int, *, reach: float) -> Interval:
    """Interval of a mean of n equal terms, whose standard error of 0 says nothing about other images.

    The share of other images with another term may be up to Wilson's limit of 0 in n; that term is taken to be ``reach`` away.
    """
    width = share_interval(np.zeros(n)).high * reach
    return Interval(max(value - width, 0.0), value + width, LEVEL, "sampling", "Wilson, share of images with another term")


def mean_interval(values_N: Any, replicates: int, seed: int) -> Interval | None:
    """Bootstrap interval of the mean of one number per image, such as PSNR; for shares see `share_interval`.

    None if all numbers are equal, which says nothing about other images.
    """
    numbers = np.asarray(values_N, dtype=np.float64)
    weights_RN = resampling_weights(len(numbers), replicates, seed)
    return centred_interval(float(numbers.mean()), weights_RN @ numbers / len(numbers), bootstrap_method(replicates))


def median_interval(values_N: Any) -> Interval | None:
    """Interval of a median between two order statistics, exact for any distribution (Conover 1999, section 3.2).

    A bootstrap of a median resamples a few of the values only. None below six images, where no two order statistics cover 95 %,
    and if the two are equal.
    """
    numbers = np.asarray(values_N, dtype=np.float64)
    found = quantile_test(numbers, q=float(np.median(numbers)), p=0.5).confidence_interval(LEVEL)
    if not found.high > found.low:  # also if an end is NaN
        return None
    return Interval(float(found.low), float(found.high), LEVEL, "sampling", "order statistics")


def centred_interval(value: float, replicates_R: Floats, method: str) -> Interval | None:
    """The 95 % interval around ``value`` from resampled scores; None if all of them are equal.

    Resampled scores are biased, so their spread around their own mean is moved to the score:
    [s - (q_high - mean), s - (q_low - mean)].
    """
    if not deviations(replicates_R).any():
        return None
    low, high = np.quantile(replicates_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) - replicates_R.mean()
    return Interval(value - float(high), value - float(low), LEVEL, "sampling", method)


def resampling_weights(n: int, replicates: int, seed: int) -> NDArray[np.int64]:
    """How often each of n images is drawn in each replicate of a bootstrap: multinomial counts ``[R, N]``.

    Raises:
        InputError: no images or no replicates.
    """
    if n < 1 or replicates < 1:
        raise InputError(f"a bootstrap of {n} images with {replicates} replicates; expected at least 1 of each")
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=replicates)


def bootstrap_method(replicates: int) -> str:
    """How records describe an interval from a bootstrap."""
    return f"bootstrap over generated images, {replicates} replicates"
