"""Conditional accuracy: the share of samples that a classifier of their classes assigns to the requested class."""

from __future__ import annotations

from collections.abc import Mapping

from nvgbench.errors import InputError
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.uncertainty import Contributions, contributions_to_mean, share_interval
from nvgbench.results.scores import SCORES


class AccuracyMetric:
    """Needs the requested classes, and an extractor whose logits cover them."""

    scores = (SCORES["accuracy"],)
    fewest_images = 2

    def compute(self, inputs: MetricInputs) -> Mapping[str, Contributions]:
        labels_N, logits_NK = inputs.labels_N, inputs.generated.logits_NK
        if labels_N is None or not logits_NK.shape[1]:
            return {}
        classes = logits_NK.shape[1]
        if labels_N.max() >= classes:
            raise InputError(f"the samples include class {labels_N.max()}, the classifier knows 0 to {classes - 1}")
        hits_N = logits_NK.argmax(axis=1) == labels_N
        accuracy = Contributions(
            value=float(hits_N.mean()), parts=contributions_to_mean(hits_N), interval=share_interval(hits_N)
        )
        return {"accuracy": accuracy}
