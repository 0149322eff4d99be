"""Diagnostics for memorised images: how far samples are from the nearest training image, relative to held-out images.

Shape letters: N generated, M held-out images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nvgbench.errors import InputError
from nvgbench.metrics.arrays import Floats
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.neighbours import nearest_distances
from nvgbench.metrics.uncertainty import Contributions, contributions_to_mean, equal_terms_interval, median_interval
from nvgbench.results.scores import SCORES


class NearestTrainingMetric:
    """Distances of samples to the nearest training image beside those of the reference images; needs training images."""

    scores = (SCORES["nearest-training-ratio"], SCORES["novelty"])
    fewest_images = 1

    def compute(self, inputs: MetricInputs) -> Mapping[str, Contributions]:
        if inputs.training is None:
            return {}
        training = inputs.training.features_ND
        near_N = nearest_distances(inputs.generated.features_ND, training, device=inputs.device)
        held_out_M = nearest_distances(inputs.reference.features_ND, training, device=inputs.device)
        usual = float(np.median(held_out_M))
        if usual == 0:
            raise InputError("the reference consists of training images; compare with held-out ones")
        ratio = Contributions(
            value=float(np.median(near_N)) / usual,
            parts=np.zeros(0),  # the jackknife of a median is not consistent
            interval=median_interval(near_N / usual),
            note=f"{len(training)} training images",
        )
        return {"nearest-training-ratio": ratio, "novelty": novelty(near_N, held_out_M)}


def novelty(near_N: Floats, held_out_M: Floats) -> Contributions:
    """Share of pairs in which the sample is further from the training images than the held-out image, ties counting half.

    The Mann-Whitney statistic of Meehan et al. (2020, "A Non-Parametric Test to Detect Data-Copying in Generative Models",
    section 3), over the whole space instead of cells.

    Args:
        near_N: distance of each sample to the nearest training image.
        held_out_M: the same of each held-out image.
    """
    ordered_M = np.sort(held_out_M)
    nearer, as_near = (np.searchsorted(ordered_M, near_N, side=side) for side in ("left", "right"))
    terms_N = (nearer + as_near) / (2 * len(ordered_M))
    value, n = float(terms_N.mean()), len(terms_N)
    return Contributions(
        value=value,
        parts=contributions_to_mean(terms_N) if n > 1 else np.zeros(n),
        degenerate=equal_terms_interval(value, n, reach=1.0),
    )
