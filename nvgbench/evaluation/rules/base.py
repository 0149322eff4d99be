"""What the rules of another evaluator consist of, and how an exact score becomes one under them.

Shape letters: N generated, M reference images, D features, F numbers an extractor gives for an image.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nvgbench.evaluation.reference import Reference
from nvgbench.extractors.cache import Features
from nvgbench.extractors.registry import ExtractorRequest
from nvgbench.interfaces import FeatureExtractor
from nvgbench.results.protocols import Protocol as Identity
from nvgbench.results.scores import SCORES
from nvgbench.types import Interval, MetricValue


class Rules(Protocol):
    """An evaluator's rules.

    Attributes:
        identity: id and version, which stand on every number.
    """

    identity: Identity

    def extractor(self, request: ExtractorRequest) -> FeatureExtractor:
        """The network with the evaluator's preprocessing."""
        ...

    def pool(self, features_NF: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of what the extractor gives, the features ``[N, 2048]`` that the Fréchet distance is taken of."""
        ...

    def frechet(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
        """The Fréchet distance of pool features ``[N, 2048]`` and ``[M, 2048]`` by these rules."""
        ...

    def scores(
        self, exact: Sequence[MetricValue], generated: Features, real: Features, reference: Reference, seed: int
    ) -> list[MetricValue]:
        """The scores by these rules.

        Args:
            exact: nvgbench's own scores of the same features, whose intervals are moved onto these rules' values.
            generated, real: what the extractor gave for both sets.
            reference: for moments that were stored with it.
            seed: for what the evaluator leaves to chance.

        Raises:
            InputError: too few images, or stored moments that do not fit.
        """
        ...


def moved(exact: MetricValue, value: float, identity: Identity, *, note: str = "") -> MetricValue:
    """``exact`` with the value that other rules give: the interval goes along, as it is as wide.

    Args:
        exact: nvgbench's own score of Inception features.
        value: the score by the other rules.
        identity: the rules.
        note: what a reader should know, in place of the exact score's.
    """
    interval = exact.interval
    if interval is not None and exact.value is not None:
        shift = value - exact.value
        interval = SCORES[exact.name].clip(
            dataclasses.replace(
                interval,
                low=interval.low + shift,
                high=interval.high + shift,
                method=f"{interval.method}, moved from nvgbench's score",
            )
        )
    return dataclasses.replace(exact, value=value, interval=interval, protocol=identity.tag, note=note)


def normal(value: float, stderr: float, method: str) -> Interval:
    """A distance ± 1.96 standard errors, at least 0."""
    return Interval(max(value - 1.959964 * stderr, 0.0), value + 1.959964 * stderr, 0.95, "sampling", method)


def few_images(n: int, dimension: int) -> str:
    """A note where a covariance is singular; empty otherwise."""
    return f"fewer images than features ({dimension}): strongly biased, compare equal n only" if n <= dimension else ""
