"""The interface of another evaluator's rules, and how an exact score becomes a score under them.

Shape letters: N generated, M reference images, D features, F values per image that an extractor returns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nvgbench.evaluation.reference import Reference
from nvgbench.extractors.registry import ExtractorRequest
from nvgbench.interfaces import FeatureExtractor
from nvgbench.results.protocols import Protocol as Identity
from nvgbench.results.scores import SCORES
from nvgbench.types import Features, MetricValue

BASIS = ("frechet", "inception-score", "neighbours", "kernel")
"""The metrics whose exact scores lend their intervals to those of other evaluators."""


class Rules(Protocol):
    """An evaluator's rules.

    Attributes:
        identity: id and version, recorded with every value.
    """

    identity: Identity

    def extractor(self, request: ExtractorRequest) -> FeatureExtractor:
        """The network with the evaluator's preprocessing."""
        ...

    def pool(self, features_NF: NDArray[np.float32]) -> NDArray[np.float32]:
        """The part of the extractor's output ``[N, 2048]`` that enters the Fréchet distance."""
        ...

    def frechet(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
        """The Fréchet distance of pooled features ``[N, 2048]`` and ``[M, 2048]`` by these rules."""
        ...

    def scores(
        self, exact: Sequence[MetricValue], generated: Features, real: Features, reference: Reference, seed: int
    ) -> list[MetricValue]:
        """The scores by these rules.

        Args:
            exact: nvgbench's own scores of the same features (of the metrics in `BASIS`); their intervals are moved to the
                values of these rules.
            generated, real: the extractor's output for both sets.
            reference: for moments stored with it.
            seed: of what the evaluator draws at random.

        Raises:
            InputError: too few images, or stored moments that do not fit.
        """
        ...


def moved(exact: MetricValue, value: float, identity: Identity, *, note: str = "") -> MetricValue:
    """``exact`` with the value of other rules; its interval is shifted with it.

    Args:
        exact: nvgbench's own score of Inception features.
        value: the score by the other rules.
        identity: the rules.
        note: replaces the exact score's note.
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
