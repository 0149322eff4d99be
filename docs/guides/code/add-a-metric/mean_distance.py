"""Squared distance between the means of two sets of features: the Fréchet distance without its covariances."""

from __future__ import annotations

import numpy as np

from nvgbench.metrics.uncertainty import Contributions, leave_one_out
from nvgbench.results.scores import Score

SCORE = Score(
    name="mean-distance",
    metric="mean-distance",  # its name in the entry-point group
    higher_is_better=False,
    definition="squared distance between the means of the features",
)


class MeanDistance:
    """Implements `nvgbench.metrics.metric.Metric`."""

    scores = (SCORE,)
    fewest_images = 2

    def compute(self, inputs):
        x_ND = inputs.generated.features_ND.astype(np.float64)
        difference_D = x_ND.mean(axis=0) - inputs.reference.features_ND.mean(axis=0, dtype=np.float64)
        without_ND = difference_D + (x_ND.mean(axis=0) - x_ND) / (len(x_ND) - 1)  # the same without image i
        return {
            "mean-distance": Contributions(
                value=float(difference_D @ difference_D),
                parts=leave_one_out((without_ND**2).sum(axis=1)),
            )
        }
