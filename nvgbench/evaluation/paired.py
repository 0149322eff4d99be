"""The difference of two models' scores from their cached features, image by image where the images share their seeds.

Image i of two sampling jobs has the same class and the same noise, so that a part of both scores' errors is common and cancels
in the difference; intervals taken from the two scores alone cannot know that. Shape letters: N images.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import log_softmax

from nvgbench.extractors.cache import FeatureCache, Features
from nvgbench.metrics.arrays import Floats
from nvgbench.metrics.frechet import gaussian_of
from nvgbench.metrics.inception_score import FIDELITY_SPLITS, fidelity_order
from nvgbench.metrics.jackknife import (
    frechet_contributions,
    hits_contributions,
    inception_contributions,
    mean_contributions,
    standard_error,
)
from nvgbench.metrics.kernel import kernel_contributions
from nvgbench.metrics.prdc import neighbour_scores
from nvgbench.results.compare import Margin, identity
from nvgbench.results.protocols import OWN, PROTOCOLS
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import score_name

_ROUNDING = 1e-12
"""What is left of a standard error of 0."""


def paired_margins(
    baseline: RunRecord, candidate: RunRecord, root: Path, *, device: torch.device | str = "cpu"
) -> dict[str, Margin]:
    """By name of the score, what two records' images say about the error of the difference.

    Args:
        baseline, candidate: records of evaluations by nvgbench's own rules.
        root: folder of the runs, in whose ``_features`` the features are.
        device: where neighbours and kernels are computed.

    Returns:
        Nothing where the features are no longer there, or where other rules, references or numbers of images apply; no score
        of which all images of a model say the same; and no distance to moments that were stored with the reference, as these
        are not in the cache.
    """
    sets = _features(baseline, candidate, FeatureCache(root / "_features"))
    if sets is None:
        return {}
    old, new, real = sets
    extractor = str(baseline.provenance["extractor"]["name"])
    # Every evaluation by our rules has a distance; without it the features need not be looked at.
    if not all(_ours(record, score_name("FID", extractor)) for record in (baseline, candidate)):
        return {}
    paired = _seeds(baseline) is not None and _seeds(baseline) == _seeds(candidate)
    before, after = (_contributions(one, real, device) for one in (old, new))
    margins = {}
    for score in before.keys() & after.keys():
        if score == "FID" and any(_from_stored_moments(record) for record in (baseline, candidate)):
            continue  # the Gaussian of the reference's images is another than that of the two values
        if not all(_ours(record, score_name(score, extractor)) for record in (baseline, candidate)):
            continue
        # Images that all count alike (no sample in any ball) say nothing of others; the score's own interval does.
        if min(standard_error(before[score]), standard_error(after[score])) < _ROUNDING:
            continue
        if paired:
            error = standard_error(after[score] - before[score])
        else:
            error = float(np.hypot(standard_error(after[score]), standard_error(before[score])))
        if score == "KID":
            drawn = [_subset_variance(record, one[score]) for record, one in ((baseline, before), (candidate, after))]
            error = float(np.sqrt(error**2 + sum(drawn)))
        method = "jackknife over pairs of images of equal seeds" if paired else "jackknife over the images of both"
        margins[score_name(score, extractor)] = Margin(stderr=error, paired=paired, method=method)
    return margins


def _features(baseline: RunRecord, candidate: RunRecord, cache: FeatureCache) -> tuple[Features, Features, Features] | None:
    """Both sets' features and the reference's, where both were scored by our rules in the same way."""
    origins: list[Mapping[str, Any]] = [baseline.provenance, candidate.provenance]
    if any(identity(origins[0].get(key)) != identity(origins[1].get(key)) for key in ("reference", "extractor")):
        return None
    try:
        extractor = origins[0]["extractor"]
        reference = origins[0]["reference"]
        images = reference.get("images_fingerprint", reference["fingerprint"])  # older records have the images' alone
        wanted = [origins[0]["samples"]["fingerprint"], origins[1]["samples"]["fingerprint"], images]
        found = [cache.stored(extractor["name"], extractor["fingerprint"], one) for one in wanted]
    except (KeyError, TypeError, AttributeError):
        return None
    old, new, real = found
    if old is None or new is None or real is None or len(old) != len(new):
        return None
    return old, new, real


def _contributions(generated: Features, real: Features, device: torch.device | str) -> dict[str, Floats]:
    """What each image adds to the error of each score ``[N]``."""
    x, y, n = generated.features_ND, real.features_ND, len(generated)
    found = {"FID": frechet_contributions(x, *gaussian_of(y)), "KID": kernel_contributions(x, y, device=device)}
    near = neighbour_scores(x, y, device=device)
    found |= {
        "precision": mean_contributions(near.inside_N),
        "density": mean_contributions(near.density_N),
        "recall": near.recall_contributions_R,
        "coverage": hits_contributions(near.coverage_hits_Mh, n),
    }
    if generated.logits_NK.shape[1]:
        order = fidelity_order(n)
        log_p = log_softmax(generated.logits_NK[order].astype(np.float64), axis=1)
        found["IS"] = inception_contributions(log_p, splits=min(FIDELITY_SPLITS, n))
    return found


def _ours(record: RunRecord, name: str) -> bool:
    """Whether a record has this score by our own rules."""
    return any(metric.name == name and metric.protocol == PROTOCOLS[OWN].tag for metric in record.metrics)


def _from_stored_moments(record: RunRecord) -> bool:
    """Whether a record's FID was computed from moments stored with the reference; older records say so in its note alone."""
    reference = record.provenance.get("reference")
    if isinstance(reference, Mapping) and "stored_moments" in reference:
        return bool(reference["stored_moments"])
    return any(metric.name == "FID" and "moments stored" in metric.note for metric in record.metrics)


def _subset_variance(record: RunRecord, contributions_N: Floats) -> float:
    """What the draw of the subsets adds to the variance of a recorded kernel distance."""
    stated = next((metric.stderr for metric in record.metrics if metric.name.startswith(("KID", "KD["))), None)
    return max((stated or 0.0) ** 2 - standard_error(contributions_N) ** 2, 0.0)


def _seeds(record: RunRecord) -> Any:
    """The seed of the sampling job; None for files of somebody else's, whose images share nothing."""
    seeds = record.provenance.get("seeds")
    if not isinstance(seeds, Mapping) or record.family in ("external", "anchor"):
        return None
    return seeds.get("sampling")
