"""torch-fidelity's metrics, computed by the library's own functions at its defaults; precision and recall of Inception's.

The library's command shuffles for the Inception Score with a seed and cuts ten splits, so that the score depends on N. Its own
feature cache, keyed by a name alone, is not used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from nvgbench.errors import InputError
from nvgbench.evaluation.reference import Reference
from nvgbench.evaluation.rules.base import moved
from nvgbench.extractors.inception import InceptionExtractor
from nvgbench.extractors.registry import ExtractorRequest
from nvgbench.metrics.frechet import small_sample_note
from nvgbench.metrics.inception_score import FIDELITY_SEED, FIDELITY_SPLITS
from nvgbench.results.protocols import PROTOCOLS
from nvgbench.types import Features, MetricValue

SUBSET = 1000
_WHOLE = 10_000
"""Up to so many images the library's matrix of all distances is small; above, its route in parts gives the same."""


class TorchFidelityRules:
    """See the head of this file; implements `nvgbench.evaluation.rules.base.Rules`."""

    identity = PROTOCOLS["torch-fidelity"]

    def extractor(self, request: ExtractorRequest) -> InceptionExtractor:
        return InceptionExtractor(request.weights, request.device)

    def pool(self, features_NF: NDArray[np.float32]) -> NDArray[np.float32]:
        return features_NF

    def frechet(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
        from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

        statistics = [fid_features_to_statistics(torch.from_numpy(part)) for part in (x, y)]
        return fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]

    def scores(
        self, exact: Sequence[MetricValue], generated: Features, real: Features, reference: Reference, seed: int
    ) -> list[MetricValue]:
        from torch_fidelity.metric_isc import isc_features_to_metric
        from torch_fidelity.metric_kid import kid_features_to_metric
        from torch_fidelity.metric_prc import prc_features_to_metric

        if len(generated) < FIDELITY_SPLITS:
            raise InputError(f"{len(generated)} samples are too few for torch-fidelity's {FIDELITY_SPLITS} splits; use more")
        named = {metric.name: metric for metric in exact}
        x, y = (torch.from_numpy(part.features_ND) for part in (generated, real))
        size = min(SUBSET, len(x), len(y))
        score = isc_features_to_metric(torch.from_numpy(generated.logits_NK), FIDELITY_SPLITS, True, FIDELITY_SEED)
        distance = kid_features_to_metric(x, y, kid_subset_size=size, rng_seed=FIDELITY_SEED, verbose=False)
        manifold = prc_features_to_metric(x, y, save_cpu_ram=max(len(x), len(y)) > _WHOLE, verbose=False)
        found = {
            "FID": (self.frechet(generated.features_ND, real.features_ND), small_sample_note(*x.shape) or ""),
            "KID": (
                distance["kernel_inception_distance_mean"],
                f"100 subsets of {size}, standard deviation {distance['kernel_inception_distance_std']:.3g}",
            ),
            "IS": (score["inception_score_mean"], f"standard deviation of ten splits {score['inception_score_std']:.3g}"),
            "precision": (manifold["precision"], ""),
            "recall": (manifold["recall"], ""),
        }
        return [moved(named[name], value, self.identity, note=note) for name, (value, note) in found.items()]
