"""Simulated evaluations: features drawn from known Gaussians, scored as those of real images are.

For the gate's self-test, which needs hundreds of evaluations of the same model with new noise. The simulated model varies too
little along one direction and is off-centre there, so that precision is high, recall low, and the Fréchet distance about 10 and
known to half a per cent, about as well as a FID of 50,000 images. Shape letters: N images, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nvgbench.evaluation.scores import compute_scores
from nvgbench.metrics.metric import MetricInputs
from nvgbench.results.schema import RunRecord
from nvgbench.types import Features, MetricValue

EXTRACTOR = "simulated"
IMAGES = 400
FEATURES = 12
METRICS = ("frechet", "frechet-extrapolated", "inception-score", "neighbours", "kernel")
"""Those that take less than a tenth of a second."""
CLASSES = 10
REFERENCE_SPREAD, MODEL_SPREAD, MODEL_SHIFT = 3.0, 0.1, 1.0
"""Standard deviations along the first direction, and the distance of the means there; elsewhere both are standard normal."""


def simulated_draw(seed: int) -> Callable[[int, float], RunRecord]:
    """A simulated model whose Fréchet distance can be made worse or better.

    Args:
        seed: of the reference, which stays fixed, as in an evaluation.

    Returns:
        ``draw(seed, loss)``: the record of an evaluation of `IMAGES` images with that seed, its expected Fréchet distance worse
        by the share ``loss`` (better where negative; at least -0.09, where the means meet).
    """
    # Separate streams for the reference, the initial distance, and each evaluation.
    reference = _features(np.random.default_rng((seed, 1)), REFERENCE_SPREAD, 0.0)
    start = _features(np.random.default_rng((seed, 2)), MODEL_SPREAD, MODEL_SHIFT)
    distance = _scores(start, reference, seed=0)[0].value
    assert distance is not None

    def draw(draw_seed: int, loss: float) -> RunRecord:
        # The distance includes the squared distance of the means, which alone carries the change.
        shift = float(np.sqrt(max(MODEL_SHIFT**2 + loss * distance, 0.0)))
        features = _features(np.random.default_rng((draw_seed, 3)), MODEL_SPREAD, shift)
        metrics = tuple(_scores(features, reference, seed=draw_seed))
        return RunRecord(kind="eval", subject="simulated model", family=EXTRACTOR, metrics=metrics)

    return draw


def _scores(generated: Features, reference: Features, seed: int) -> list[MetricValue]:
    return compute_scores(MetricInputs(generated=generated, reference=reference, extractor=EXTRACTOR, seed=seed), METRICS)[0]


def _features(rng: np.random.Generator, spread: float, shift: float) -> Features:
    """Gaussian features, and logits that do not depend on them."""
    features_ND = rng.normal(size=(IMAGES, FEATURES))
    features_ND[:, 0] = features_ND[:, 0] * spread + shift
    logits_NK = rng.normal(scale=1.5, size=(IMAGES, CLASSES))
    return Features(features_ND.astype(np.float32), logits_NK.astype(np.float32), "")
