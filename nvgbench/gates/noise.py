"""Noise of scores in a gate: standard errors with their degrees of freedom."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from scipy.special import stdtr, stdtrit

from nvgbench.results.compare import standard_error
from nvgbench.types import MetricValue


@dataclass(frozen=True)
class Noise:
    """A standard error and its degrees of freedom, infinite if the error counts as known."""

    deviation: float
    freedom: float = math.inf

    def tail(self, distance: float) -> float:
        """Probability of at least this distance above zero by noise alone."""
        below = -distance / self.deviation
        return NormalDist().cdf(below) if math.isinf(self.freedom) else float(stdtr(self.freedom, below))

    def quantile(self, share: float) -> float:
        """The value that noise alone stays below with this probability."""
        law = NormalDist().inv_cdf(share) if math.isinf(self.freedom) else float(stdtrit(self.freedom, share))
        return law * self.deviation


def noise_of(metric: MetricValue) -> Noise | None:
    """The noise that a score's interval states; None without interval.

    The error of a mean over a few trainings (or sampling seeds) is itself uncertain, hence Student's t; it is taken from
    ``stderr``, as the interval may be clipped to the score's range.
    """
    if metric.interval is None:
        return None
    if metric.interval.df is not None and metric.stderr is not None:
        return Noise(metric.stderr, metric.interval.df)
    return Noise(standard_error(metric.interval))


def of_difference(a: Noise, b: Noise) -> Noise | None:
    """Noise of the difference of two independent numbers (Welch and Satterthwaite); None if neither has any.

    Intervals without width (repetitions that gave equal numbers) say nothing about other samples.
    """
    deviation = math.hypot(a.deviation, b.deviation)
    if not deviation:
        return None
    spent = sum((one.deviation / deviation) ** 4 / one.freedom for one in (a, b))
    return Noise(deviation, 1 / spent if spent else math.inf)
