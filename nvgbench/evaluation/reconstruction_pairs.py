"""What each image contributes to the scores of its reconstructions, for comparing two tokenizers image by image.

Records hold no arrays, so the number of each image is kept beside the cached features, under the fingerprints of the images and
of their reconstructions. Shape letters: N images.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nvgbench.extractors.cache import FeatureCache
from nvgbench.files import whole_file
from nvgbench.metrics.arrays import Floats
from nvgbench.metrics.frechet_pairs import frechet_of_pairs
from nvgbench.metrics.uncertainty import Contributions, contributions_to_mean
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import score_name
from nvgbench.types import Features

_ROUNDING = 1e-9
"""Relative difference between a recorded mean and that of the kept numbers, beyond which they are of another computation."""


def mean_of(numbers_N: Floats) -> Contributions:
    """The mean of one number per image and what each image contributes; no interval if all numbers are equal.

    Args:
        numbers_N: of at least two images.
    """
    return Contributions(
        value=float(numbers_N.mean()), parts=contributions_to_mean(numbers_N), method="jackknife over reconstructed images"
    )


def keep_numbers(cache: FeatureCache, images: Features, copies: Features, numbers: Mapping[str, Floats]) -> None:
    """Store the number of each image, by score, in the folder of the cache if it has one.

    Raises:
        OSError: the file cannot be written.
    """
    if (path := _path(cache, images.fingerprint, copies.fingerprint)) is not None:
        with whole_file(path) as temporary:
            np.savez(temporary, **numbers)  # type: ignore[arg-type]  # names of scores are no options of savez


def reconstruction_contributions(record: RunRecord, cache: FeatureCache) -> dict[str, Contributions]:
    """Contributions to the scores of a record's reconstructions by recorded name; empty if nothing is stored any more."""
    try:
        images, copies = (record.provenance[key]["fingerprint"] for key in ("reconstruction_reference", "reconstructions"))
    except (KeyError, TypeError):
        return {}
    recorded = {metric.name: metric.value for metric in record.metrics}
    found = {
        name: mean_of(numbers_N)
        for name, numbers_N in _stored_numbers(cache, images, copies).items()
        if name in recorded and math.isclose(numbers_N.mean(), recorded[name] or math.nan, rel_tol=_ROUNDING)
    }
    extractor: Any = record.provenance.get("extractor")
    if isinstance(extractor, Mapping) and {"name", "fingerprint"} <= extractor.keys():
        made, real = (cache.stored(extractor["name"], extractor["fingerprint"], one) for one in (copies, images))
        if made is not None and real is not None:
            found[score_name("rFID", extractor["name"])] = frechet_of_pairs(made.features_ND, real.features_ND)
    return found


def _stored_numbers(cache: FeatureCache, images: str, copies: str) -> dict[str, Floats]:
    path = _path(cache, images, copies)
    if path is None or not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception:  # damaged bytes raise anything; the comparison then takes the two intervals
        return {}


def _path(cache: FeatureCache, images: str, copies: str) -> Path | None:
    if cache.folder is None:
        return None
    return cache.folder / "reconstructions" / f"{hashlib.sha256(f'{images}/{copies}'.encode()).hexdigest()}.npz"
