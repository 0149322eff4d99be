"""Noise of scores as a gate takes it: standard errors, and how well they are known themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from scipy.special import stdtr, stdtrit

from nvgbench.results.compare import standard_error
from nvgbench.types import MetricValue


@dataclass(frozen=True)
class Noise:
    """A standard error and the degrees of freedom behind it; infinitely many where the error counts as known."""

    deviation: float
    freedom: float = math.inf

    def tail(self, distance: float) -> float:
        """Probability of lying at least that far above zero by noise alone."""
        below = -distance / self.deviation
        return NormalDist().cdf(below) if math.isinf(self.freedom) else float(stdtr(self.freedom, below))

    def quantile(self, share: float) -> float:
        """What noise alone stays below with that probability."""
        law = NormalDist().inv_cdf(share) if math.isinf(self.freedom) else float(stdtrit(self.freedom, share))
        return law * self.deviation


def noise_of(metric: MetricValue) -> Noise | None:
    """What the interval of a score says of its noise; None without interval.

    A mean over a few trainings (or sampling seeds) has an error that is itself known badly, which Student's t stands for; its
    interval may have been cut to what the score can be and is not asked.
    """
    if metric.interval is None:
        return None
    if metric.interval.df is not None and metric.stderr is not None:
        return Noise(metric.stderr, metric.interval.df)
    return Noise(standard_error(metric.interval))


def of_difference(a: Noise, b: Noise) -> Noise | None:
    """Noise of the difference of two independent numbers (Welch and Satterthwaite); None where neither has any.

    Equal numbers (of older records, a density of 0) have no width, which says nothing of other samples.
    """
    deviation = math.hypot(a.deviation, b.deviation)
    if not deviation:
        return None
    spent = sum((one.deviation / deviation) ** 4 / one.freedom for one in (a, b))
    return Noise(deviation, 1 / spent if spent else math.inf)
