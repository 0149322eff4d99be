"""A check for memorised images: how far samples are from the nearest training image, relative to held-out images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nvgbench.errors import InputError
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.neighbours import nearest_distances
from nvgbench.metrics.uncertainty import Contributions, median_interval
from nvgbench.results.scores import SCORES


class NearestTrainingMetric:
    """Median distance of samples to the nearest training image over that of the reference images; needs training images."""

    scores = (SCORES["nearest-training-ratio"],)
    needs_reference = True
    fewest_images = 1

    def compute(self, inputs: MetricInputs) -> Mapping[str, Contributions]:
        if inputs.training is None:
            return {}
        training = inputs.training.features_ND
        near_N = nearest_distances(inputs.generated.features_ND, training, device=inputs.device)
        usual = float(np.median(nearest_distances(inputs.reference.features_ND, training, device=inputs.device)))
        if usual == 0:
            raise InputError("the reference consists of training images; compare with held-out ones")
        ratio = Contributions(
            value=float(np.median(near_N)) / usual,
            parts=np.zeros(0),  # a median has no contributions of single images
            interval=median_interval(near_N / usual),
            note=f"{len(training)} training images",
        )
        return {"nearest-training-ratio": ratio}
