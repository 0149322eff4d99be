"""FDr: the Fréchet distance of samples over that of other real images, averaged over extractors (arXiv 2604.28190)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nvgbench.errors import InputError
from nvgbench.metrics.uncertainty import Contributions


def mean_ratio(distances: Sequence[tuple[Contributions, Contributions]]) -> Contributions:
    """The mean over extractors of distance / distance of real images; 1 for samples as good as real images.

    Both distances are to the same reference, of equally many images, since they are biased by the number. Image i is the same
    for all extractors, so its contributions are added before they are squared. The error covers other samples and other real
    images, to first order.

    Args:
        distances: per extractor, the distance of the samples and that of the real images.

    Raises:
        InputError: real images that have no distance from the reference, because they are the reference.
    """
    if any(real.value <= 0 for _, real in distances):
        raise InputError("the real images are those of the reference; FDr needs others from the same source")
    ratios = np.array([samples.value / real.value for samples, real in distances])
    parts_N = np.mean([samples.parts / real.value for samples, real in distances], axis=0)
    real_N = np.mean([ratio / real.value * real.parts for ratio, (_, real) in zip(ratios, distances, strict=True)], axis=0)
    return Contributions(
        value=float(ratios.mean()),
        parts=parts_N,
        other_variance=float((real_N**2).sum()),
        method="jackknife over generated and real images",
    )
