"""A check for memorised images: how far samples are from the nearest training image, relative to held-out images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nvgbench.errors import InputError
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.neighbours import nearest_distances
from nvgbench.metrics.uncertainty import Contributions, bootstrap_method, centred_interval
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
        rng = np.random.default_rng(inputs.seed)
        medians = [np.median(near_N[rng.integers(len(near_N), size=len(near_N))]) / usual for _ in range(inputs.bootstrap)]
        value = float(np.median(near_N)) / usual
        ratio = Contributions(
            value=value,
            parts=np.zeros(0),  # a median has no contributions of single images
            interval=centred_interval(value, np.array(medians), bootstrap_method(inputs.bootstrap)),
            note=f"{len(training)} training images",
        )
        return {"nearest-training-ratio": ratio}
