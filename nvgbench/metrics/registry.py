"""The metrics of generated images: a file and a line each, or an entry point of another package."""

from __future__ import annotations

from collections.abc import Sequence

from nvgbench.errors import InputError, did_you_mean
from nvgbench.metrics.metric import Metric
from nvgbench.registry import Registry
from nvgbench.results.scores import register_scores

METRICS: Registry[type[Metric]] = Registry(
    "metric",
    "nvgbench.metrics",
    {
        "frechet": "nvgbench.metrics.frechet:FrechetDistance",
        "frechet-extrapolated": "nvgbench.metrics.frechet_extrapolated:ExtrapolatedFrechetDistance",
        "inception-score": "nvgbench.metrics.inception_score:InceptionScoreMetric",
        "neighbours": "nvgbench.metrics.neighbours:NeighbourMetric",
        "kernel": "nvgbench.metrics.kernel:KernelMetric",
        "rbf-kernel": "nvgbench.metrics.rbf_kernel:RbfKernelMetric",
        "mind": "nvgbench.metrics.mind:MindMetric",
        "cmmd": "nvgbench.metrics.kernel:CmmdMetric",
        "vendi": "nvgbench.metrics.vendi:VendiMetric",
        "accuracy": "nvgbench.metrics.accuracy:AccuracyMetric",
        "nearest-training": "nvgbench.metrics.nearest_training:NearestTrainingMetric",
        "feature-likelihood": "nvgbench.metrics.feature_likelihood:FeatureLikelihoodMetric",
    },
)


def metrics() -> dict[str, Metric]:
    """All metrics by name, in the order of their scores in records: the built-in ones, then those of other packages."""
    found: dict[str, Metric] = {name: METRICS.get(name)() for name in METRICS.names()}
    for metric in found.values():
        register_scores(*metric.scores)
    return found


def select_metrics(names: Sequence[str] | None) -> tuple[Metric, ...]:
    """The metrics that compute the named scores; all if no names are given.

    Args:
        names: scores (``FID``, ``recall``), by either of their names, or metrics (``neighbours``).

    Raises:
        InputError: a name that is neither.
    """
    known = metrics()
    if names is None:
        return tuple(known.values())
    owners = {word: name for name, metric in known.items() for word in (name, *_score_names(metric))}
    for name in names:
        if name not in owners:
            raise InputError(f"no metric or score {name!r}{did_you_mean(name, owners)}; known: {', '.join(owners)}")
    chosen = {owners[name] for name in names}
    return tuple(metric for name, metric in known.items() if name in chosen)


def _score_names(metric: Metric) -> list[str]:
    return [name for score in metric.scores for name in (score.name, score.stem) if name]
