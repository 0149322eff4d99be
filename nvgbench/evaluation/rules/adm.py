"""The rules of OpenAI's guided-diffusion evaluator, by which most papers on ImageNet report (Dhariwal and Nichol 2021).

1. samples and reference are uint8 images of an npz; moments stored with the reference are used where they are;
2. torch-fidelity's inception-v3-compat stands in for the TensorFlow network of 2015, of which it is a conversion;
3. FID of the 2,048 pool features, float32 means, covariance with ddof 1;
4. sFID of the spatial features (`nvgbench.extractors.spatial`), likewise;
5. Inception Score of logits without bias, splits of 5,000 in the order given, the last one as long as it is;
6. precision and recall with float16 distances (`nvgbench.metrics.adm`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from nvgbench.errors import InputError
from nvgbench.evaluation.reference import Reference, StoredMoments
from nvgbench.evaluation.rules.base import few_images, moved, normal
from nvgbench.extractors.cache import Features
from nvgbench.extractors.inception import InceptionExtractor
from nvgbench.extractors.registry import ExtractorRequest
from nvgbench.extractors.spatial import split_features
from nvgbench.metrics.adm import adm_frechet, adm_gaussian, adm_precision_recall
from nvgbench.metrics.arrays import Floats
from nvgbench.metrics.frechet import factor_of_covariance
from nvgbench.metrics.inception_score import inception_score
from nvgbench.metrics.jackknife import frechet_contributions, standard_error
from nvgbench.metrics.uncertainty import inception_score_interval
from nvgbench.results.protocols import PROTOCOLS
from nvgbench.types import MetricValue


class AdmRules:
    """See the head of this file; implements `nvgbench.evaluation.rules.base.Rules`."""

    identity = PROTOCOLS["adm"]

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = device

    def extractor(self, request: ExtractorRequest) -> InceptionExtractor:
        return InceptionExtractor(request.weights, request.device, spatial=True)

    def pool(self, features_NF: NDArray[np.float32]) -> NDArray[np.float32]:
        return split_features(features_NF)[0]

    def frechet(self, x: NDArray[np.float32], y: NDArray[np.float32]) -> float:
        return adm_frechet(x, *adm_gaussian(y))

    def scores(
        self, exact: Sequence[MetricValue], generated: Features, real: Features, reference: Reference, seed: int
    ) -> list[MetricValue]:
        named = {metric.name: metric for metric in exact}
        (pool_N, spatial_N), (pool_M, spatial_M) = (split_features(part.features_ND) for part in (generated, real))
        found = [
            self._frechet(named["FID"], "FID", pool_N, pool_M, reference.moments),
            self._frechet(named["FID"], "sFID", spatial_N, spatial_M, reference.spatial_moments),
        ]
        order_N = np.random.default_rng(seed).permutation(len(generated))
        found += [
            self._inception(named["IS"], "IS", generated.logits_NK, "in the order given"),
            self._inception(named["IS"], "IS-shuffled", generated.logits_NK[order_N], f"after a shuffle with seed {seed}"),
        ]
        manifold = adm_precision_recall(pool_N, pool_M, device=self.device)
        found.append(moved(named["precision"], manifold.precision, self.identity))
        found.append(moved(named["recall"], manifold.recall, self.identity))
        return found

    def _inception(self, exact: MetricValue, name: str, logits_NK: NDArray[np.float32], order: str) -> MetricValue:
        """In splits of 5,000; it has an interval of its own, as ten splits of fewer images vary less."""
        score = inception_score(logits_NK, shuffle_seed=None)
        return dataclasses.replace(
            exact,
            name=name,
            value=score.mean,
            interval=inception_score_interval(score.mean, log_softmax(logits_NK.astype(np.float64), axis=1)),
            protocol=self.identity.tag,
            note=f"{score.splits} splits of at most 5,000 images {order}",
        )

    def _frechet(
        self,
        exact: MetricValue,
        name: str,
        x: NDArray[np.float32],
        y: NDArray[np.float32],
        stored: StoredMoments | None,
    ) -> MetricValue:
        centre, factor = adm_gaussian(y) if stored is None else _stored_gaussian(stored, x.shape[1], name)
        value = adm_frechet(x, centre, factor)
        stderr = standard_error(frechet_contributions(x, centre, factor))
        notes = ("moments stored with the reference" if stored is not None else "", few_images(len(x), x.shape[1]))
        return dataclasses.replace(
            exact,
            name=name,
            value=value,
            interval=normal(value, stderr, "jackknife, reference held fixed"),
            stderr=stderr,
            protocol=self.identity.tag,
            note="; ".join(filter(None, notes)),
        )


def _stored_gaussian(stored: StoredMoments, width: int, name: str) -> tuple[Floats, Floats]:
    if len(stored.mean_D) != width:
        raise InputError(f"{name}: the moments stored with the reference have {len(stored.mean_D)} features, expected {width}")
    if not (np.isfinite(stored.mean_D).all() and np.isfinite(stored.covariance_DD).all()):
        raise InputError(f"{name}: the moments stored with the reference hold NaN or infinity; copy the file again")
    return stored.mean_D, factor_of_covariance((stored.covariance_DD + stored.covariance_DD.T) / 2)
