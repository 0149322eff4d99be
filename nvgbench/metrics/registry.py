"""The metrics of generated images. A metric is a file and a line here, or an entry point from elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.metadata import entry_points

from nvgbench.errors import InputError, did_you_mean
from nvgbench.metrics.accuracy import AccuracyMetric
from nvgbench.metrics.frechet import FrechetDistance
from nvgbench.metrics.frechet_extrapolated import ExtrapolatedFrechetDistance
from nvgbench.metrics.inception_score import InceptionScoreMetric
from nvgbench.metrics.kernel import CmmdMetric, KernelMetric
from nvgbench.metrics.metric import Metric
from nvgbench.metrics.nearest_training import NearestTrainingMetric
from nvgbench.metrics.neighbours import NeighbourMetric
from nvgbench.results.scores import register_scores

GROUP = "nvgbench.metrics"

_BUILT_IN: tuple[Metric, ...] = (
    FrechetDistance(),
    ExtrapolatedFrechetDistance(),
    InceptionScoreMetric(),
    NeighbourMetric(),
    KernelMetric(),
    CmmdMetric(),
    AccuracyMetric(),
    NearestTrainingMetric(),
)


@functools.cache
def metrics() -> tuple[Metric, ...]:
    """All metrics in the order of their scores in records: the built-in ones, then those registered as entry points."""
    others = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        metric: Metric = entry.load()
        register_scores(*metric.scores)
        others.append(metric)
    return (*_BUILT_IN, *others)


def select_metrics(names: Sequence[str] | None) -> tuple[Metric, ...]:
    """The metrics that compute the named scores; all if no names are given.

    Args:
        names: scores (``FID``, ``recall``), by either of their names, or metrics (``neighbours``).

    Raises:
        InputError: a name that is neither.
    """
    if names is None:
        return metrics()
    by_name = {name: metric for metric in metrics() for name in _names(metric)}
    for name in names:
        if name not in by_name:
            raise InputError(f"no metric or score {name!r}{did_you_mean(name, by_name)}; known: {', '.join(by_name)}")
    chosen = [by_name[name] for name in names]
    return tuple(metric for metric in metrics() if metric in chosen)


def _names(metric: Metric) -> list[str]:
    return [metric.name, *(name for score in metric.scores for name in (score.name, score.stem) if name)]
