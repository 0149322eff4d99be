"""Statistics of features: of a set, to be stored, and whether stored ones are those of the images beside them.

Shape letters: N images, D features, F values per image that an extractor returns.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nvgbench.data.image_set import Chunk, ImageSet
from nvgbench.data.moments import Statistics, StoredMoments
from nvgbench.errors import InputError
from nvgbench.evaluation.lint.checks import Finding
from nvgbench.evaluation.reference import Reference
from nvgbench.evaluation.rules.base import Rules
from nvgbench.evaluation.rules.catalog import open_rules
from nvgbench.evaluation.scores import extract
from nvgbench.extractors.cache import FeatureCache
from nvgbench.extractors.registry import ExtractorRequest, open_extractor
from nvgbench.extractors.spatial import split_features
from nvgbench.interfaces import FeatureExtractor
from nvgbench.metrics.moments import Moments
from nvgbench.progress import Report, quiet
from nvgbench.results.scores import INCEPTION

CHECKED = 256
"""Images, evenly spread, whose mean is compared with the stored one."""
BOUND = 10.0
"""Largest squared distance of the two means, in units of its expectation for a random subset, trace(sigma) / n."""


def set_moments(
    images: ImageSet, extractor: FeatureExtractor, *, cache: FeatureCache, rules: Rules | None = None, report: Report = quiet
) -> Statistics:
    """Mean and covariance (ddof 1) of a set's Inception features in float64; with ADM's rules of its spatial features as well.

    Raises:
        InputError: fewer than two images.
    """
    if images.count < 2:
        raise InputError(f"{images.name}: {images.count} image has no covariance; give at least 2")
    features_NF = extract(images, extractor, cache, report, "features").features_ND
    spatial = None
    if rules is not None and rules.identity.id == "adm":
        spatial = _stored(split_features(features_NF)[1])
    pooled_ND = features_NF if rules is None else rules.pool(features_NF)
    return Statistics(moments=_stored(pooled_ND), spatial_moments=spatial, count=images.count)


def file_moments(
    images: ImageSet,
    protocol: str,
    *,
    weights: Path | None,
    device: torch.device | str,
    folder: Path,
    batch_size: int = 64,
    report: Report = quiet,
) -> Statistics:
    """`set_moments` with the Inception network and the preprocessing of a protocol.

    Args:
        images: the set.
        protocol: a key of `nvgbench.results.protocols.PROTOCOLS`.
        weights: Inception weights; the published ones if None.
        device: where the network runs.
        folder: where features are kept.
        batch_size: images per batch.
        report: opens a progress display.
    """
    rules = open_rules(protocol, device)
    request = ExtractorRequest(device=device, weights=weights)
    extractor = open_extractor(INCEPTION, request) if rules is None else rules.extractor(request)
    cache = FeatureCache(folder, batch_size=batch_size)
    return set_moments(images, extractor, cache=cache, rules=rules, report=report)


def feature_count(reference: Reference, extractor: FeatureExtractor, rules: Rules | None) -> int:
    """Number of features that enter the Fréchet distance."""
    if reference.statistics_only:
        moments = reference.moments or reference.spatial_moments
        assert moments is not None
        return len(moments.mean_D)
    features_1F = extractor(reference.images.first(1))[0].numpy()
    return int((features_1F if rules is None else rules.pool(features_1F)).shape[1])


def check_moments(
    images: ImageSet,
    moments: StoredMoments,
    extractor: FeatureExtractor,
    *,
    pool: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None,
    cache: FeatureCache,
    force: bool = False,
) -> list[Finding]:
    """Refuse moments that are not those of the images stored with them, by the mean of a few of these.

    Args:
        images: the images of the file.
        moments: the mean and covariance in it.
        extractor: of Inception features.
        pool: the part of its output that the moments are of; all of it if None.
        cache: keeps the features of these few images.
        force: report it only.

    Raises:
        InputError: another number of features, or means further apart than `BOUND`.
    """
    indices = np.unique(np.linspace(0, images.count - 1, min(images.count, CHECKED)).round().astype(int)).tolist()
    features_NF = cache.extract([Chunk(len(indices), lambda: images.load(indices))], extractor).features_ND
    features_ND = features_NF if pool is None else pool(features_NF)
    if features_ND.shape[1] != len(moments.mean_D):
        raise InputError(
            f"{images.name}: the stored mean has {len(moments.mean_D)} features, {extractor.name} {features_ND.shape[1]}; "
            "use a file whose statistics are of these features"
        )
    apart = float(np.square(features_ND.mean(axis=0, dtype=np.float64) - moments.mean_D).sum())
    expected = float(np.trace(moments.covariance_DD)) / len(indices)
    if apart <= BOUND * expected:
        return []
    message = (
        f"the statistics stored in {images.name} are not those of its images: the mean of {len(indices)} of them is "
        f"{apart / expected if expected else np.inf:.3g} times as far from the stored one (squared) as that of a random subset"
    )
    if not force:
        raise InputError(f"{message}; copy the file again, use another, or score anyway with `force=True`")
    return [Finding("statistics", "forced", message)]


def _stored(features_ND: NDArray[np.float32]) -> StoredMoments:
    found = Moments.of(features_ND)
    return StoredMoments(found.mean, found.covariance)
