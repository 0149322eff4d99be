"""The rules of OpenAI's guided-diffusion evaluator, which most papers on ImageNet report (Dhariwal and Nichol 2021).

1. samples and reference are uint8 images in an npz; moments stored with the reference are used if present;
2. torch-fidelity's inception-v3-compat replaces the TensorFlow network of 2015, from which it was converted;
3. FID of the 2,048 pooled features, float32 means, covariance with ddof 1;
4. sFID of the spatial features (`nvgbench.extractors.spatial`), likewise;
5. Inception Score of logits without bias, splits of 5,000 in the order given, the last one shorter;
6. precision and recall with float16 distances (`nvgbench.metrics.adm`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from nvgbench.data.moments import StoredMoments
from nvgbench.errors import InputError
from nvgbench.evaluation.reference import Reference
from nvgbench.evaluation.rules.base import moved
from nvgbench.evaluation.values import metric_value
from nvgbench.extractors.inception import InceptionExtractor
from nvgbench.extractors.registry import ExtractorRequest
from nvgbench.extractors.spatial import split_features
from nvgbench.metrics.adm import adm_frechet, adm_gaussian, adm_precision_recall
from nvgbench.metrics.arrays import Floats
from nvgbench.metrics.frechet import factor_of_covariance, frechet_contributions, small_sample_note
from nvgbench.metrics.inception_score import SPLIT_SIZE, inception_score, score_in_order, split_bounds
from nvgbench.metrics.uncertainty import Contributions
from nvgbench.results.protocols import PROTOCOLS
from nvgbench.results.scores import INCEPTION
from nvgbench.types import Features, MetricValue


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
        n, m = len(generated), len(real)
        (pool_N, spatial_N), (pool_M, spatial_M) = (split_features(part.features_ND) for part in (generated, real))
        order_N = np.random.default_rng(seed).permutation(n)
        logits_NK = generated.logits_NK
        found: list[tuple[str, Contributions, int | None]] = [
            (name, _frechet(x, y, moments, name), m)
            for name, x, y, moments in (
                ("FID", pool_N, pool_M, reference.moments),
                ("sFID", spatial_N, spatial_M, reference.spatial_moments),
            )
            if m or moments is not None
        ]
        found += [
            ("IS", _inception(logits_NK, "in the order given"), None),
            ("IS-shuffled", _inception(logits_NK[order_N], f"after a shuffle with seed {seed}"), None),
        ]
        values = [metric_value(name, INCEPTION, score, n, rows, protocol=self.identity) for name, score, rows in found]
        if not m:  # a reference of statistics
            return values
        manifold = adm_precision_recall(pool_N, pool_M, device=self.device)
        named = {value.name: value for value in exact}
        values.append(moved(named["precision"], manifold.precision, self.identity))
        values.append(moved(named["recall"], manifold.recall, self.identity))
        return values


def short_split(n: int) -> str:
    """A warning if the last of several splits of the Inception Score is shorter than the others, else nothing."""
    rest = n % SPLIT_SIZE
    if n < SPLIT_SIZE or not rest:
        return ""
    return (
        f"{n} images make {n // SPLIT_SIZE} splits of 5,000 and a last one of {rest}, which counts as much as the others and "
        "lowers IS (adm); use a multiple of 5,000"
    )


def _inception(logits_NK: NDArray[np.float32], order: str) -> Contributions:
    """In splits of 5,000; the error is its own, as ten splits of fewer images vary less."""
    n = len(logits_NK)
    splits = len(split_bounds(n, None, SPLIT_SIZE))
    note = f"{splits} splits of at most 5,000 images {order}"
    if short_split(n):
        whole = inception_score(logits_NK[: n - n % SPLIT_SIZE], shuffle_seed=None)
        note += f"; {whole.mean:.5g} without the last split, of {n % SPLIT_SIZE} images"
    return dataclasses.replace(score_in_order(logits_NK), note=note)


def _frechet(x: NDArray[np.float32], y: NDArray[np.float32], stored: StoredMoments | None, name: str) -> Contributions:
    centre, factor = adm_gaussian(y) if stored is None else _stored_gaussian(stored, x.shape[1], name)
    notes = ("" if stored is None else "moments stored with the reference", small_sample_note(*x.shape))
    return Contributions(
        value=adm_frechet(x, centre, factor),
        parts=frechet_contributions(x, centre, factor),
        method="jackknife, reference held fixed",
        note="; ".join(filter(None, notes)),
    )


def _stored_gaussian(stored: StoredMoments, width: int, name: str) -> tuple[Floats, Floats]:
    if len(stored.mean_D) != width:
        raise InputError(f"{name}: the moments stored with the reference have {len(stored.mean_D)} features, expected {width}")
    if not (np.isfinite(stored.mean_D).all() and np.isfinite(stored.covariance_DD).all()):
        raise InputError(f"{name}: the moments stored with the reference contain NaN or infinity; copy the file again")
    return stored.mean_D, factor_of_covariance((stored.covariance_DD + stored.covariance_DD.T) / 2)
