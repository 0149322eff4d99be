"""What a metric is: features of two sets of images to the values and errors of its scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from nvgbench.metrics.arrays import Floats
from nvgbench.metrics.uncertainty import Contributions
from nvgbench.results.scores import Score
from nvgbench.types import Features


@dataclass(frozen=True, kw_only=True)
class MetricInputs:
    """What a metric may use. Shape letters: N generated images, D features.

    Attributes:
        generated: features of the generated images, and their logits if the extractor has any.
        reference: features of the reference images; without rows for metrics that need none.
        extractor: its name.
        moments: mean ``[D]`` and covariance ``[D, D]`` stored with the reference, to be used in place of its features.
        labels_N: int64 requested classes of the generated images as indices of the logits, if known.
        training: features of the training images, if copies of them are to be looked for.
        seed: of everything that a metric draws.
        thorough: also compute what takes minutes.
        kid_subsets, kid_subset_size: number and size of the subsets of the kernel distance.
        is_splits: splits of the Inception Score.
        device: where neighbours and kernels are computed.
    """

    generated: Features
    reference: Features
    extractor: str = "features"
    moments: tuple[Floats, Floats] | None = None
    labels_N: NDArray[np.int64] | None = None
    training: Features | None = None
    seed: int = 0
    thorough: bool = False
    kid_subsets: int = 100
    kid_subset_size: int = 1000
    is_splits: int = 10
    device: torch.device | str = "cpu"


class Metric(Protocol):
    """Computes one score, or several that share their work.

    The registry calls the class without arguments; other packages register theirs under the entry-point group
    ``nvgbench.metrics``.

    Attributes:
        scores: the rows of the table of scores (`nvgbench.results.scores`) that it computes.
        fewest_images: the smallest number of images per set that it can work with.
    """

    @property
    def scores(self) -> tuple[Score, ...]: ...
    @property
    def fewest_images(self) -> int: ...

    def compute(self, inputs: MetricInputs) -> Mapping[str, Contributions]:
        """Name of each score in the table -> its value and error; scores that the inputs do not allow are left out.

        Raises:
            InputError: the inputs cannot be used, e.g. features that are not finite.
        """
        ...
