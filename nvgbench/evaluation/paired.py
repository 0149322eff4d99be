"""The error of the difference between two models' scores, image by image where they share seeds or reconstruct the same images.

Image i of two sampling jobs with equal seeds has the same class and the same noise, and two tokenizers reconstruct the same
image i, so that part of both scores' errors is common and cancels in the difference. Intervals of the two scores alone cannot
know that. Shape letters: N images.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from nvgbench.evaluation.reconstruction_pairs import reconstruction_contributions
from nvgbench.evaluation.scores import compute_scores
from nvgbench.extractors.cache import FeatureCache
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.uncertainty import Contributions, difference_error
from nvgbench.results.compare import Margin, identity
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import SCORES, score_name, score_of
from nvgbench.types import Features


def paired_margins(
    baseline: RunRecord, candidate: RunRecord, root: Path, *, device: torch.device | str = "cpu"
) -> dict[str, Margin]:
    """By recorded name, the errors of the differences between the scores of two records, from their cached features.

    Args:
        baseline, candidate: records of evaluations by nvgbench's own rules.
        root: folder of the runs; the features are in its ``_features``.
        device: where neighbours and kernels are computed.

    Returns:
        Empty if the features are no longer cached, or if other rules, references or numbers of images apply. Without
        distances to moments stored with the reference, as these are not in the cache.
    """
    cache = FeatureCache(root / "_features")
    return _margins_of_samples(baseline, candidate, cache, device) | _margins_of_reconstructions(baseline, candidate, cache)


def _margins_of_reconstructions(baseline: RunRecord, candidate: RunRecord, cache: FeatureCache) -> dict[str, Margin]:
    """Errors of the differences between the scores of reconstructions, if both are of the same images."""
    held_out = [identity(record.provenance.get("reconstruction_reference")) for record in (baseline, candidate)]
    if held_out[0] != held_out[1]:
        return {}
    before, after = (reconstruction_contributions(record, cache) for record in (baseline, candidate))
    ours = {name: one for name, one in before.items() if all(_ours(record, name) for record in (baseline, candidate))}
    return margins(ours, after, paired=True, method="jackknife over pairs of reconstructions of the same image")


def _margins_of_samples(
    baseline: RunRecord, candidate: RunRecord, cache: FeatureCache, device: torch.device | str
) -> dict[str, Margin]:
    """Errors of the differences between the scores of generated images."""
    sets = _features(baseline, candidate, cache)
    if sets is None:
        return {}
    old, new, real = sets
    extractor = str(baseline.provenance["extractor"]["name"])
    # Every evaluation by our rules has a distance; without it there is no need to compute anything.
    if not all(_ours(record, score_name("FID", extractor)) for record in (baseline, candidate)):
        return {}
    before, after = (
        _contributions(one, real, extractor, record, device) for one, record in ((old, baseline), (new, candidate))
    )
    names = [name for name in before if name in after and all(_ours(record, name) for record in (baseline, candidate))]
    if any(_from_stored_moments(record) for record in (baseline, candidate)):
        # The Gaussian of the reference's images is not the one that these values were computed with.
        names = [name for name in names if (score := score_of(name)) is None or not score.takes_moments]
    paired = _seeds(baseline) is not None and _seeds(baseline) == _seeds(candidate)
    return margins({name: before[name] for name in names}, after, paired=paired)


def margins(
    before: Mapping[str, Contributions], after: Mapping[str, Contributions], *, paired: bool, method: str | None = None
) -> dict[str, Margin]:
    """Errors of the differences of the scores that both have; scores whose images say nothing about others are left out.

    Args:
        before, after: contributions by recorded name, of equally many images.
        paired: whether image i of both sets shares its seed and class, or is of the same image.
        method: how the errors are described; by ``paired`` if not given.
    """
    usual = "jackknife over pairs of images of equal seeds" if paired else "jackknife over the images of both"
    errors = {name: difference_error(before[name], after[name], paired=paired) for name in before if name in after}
    return {
        name: Margin(stderr=error, paired=paired, method=method or usual) for name, error in errors.items() if error is not None
    }


def _features(baseline: RunRecord, candidate: RunRecord, cache: FeatureCache) -> tuple[Features, Features, Features] | None:
    """Both sets' features and the reference's, if both were scored in the same way."""
    origins: list[Mapping[str, Any]] = [baseline.provenance, candidate.provenance]
    if any(identity(origins[0].get(key)) != identity(origins[1].get(key)) for key in ("reference", "extractor")):
        return None
    try:
        extractor, reference = origins[0]["extractor"], origins[0]["reference"]
        wanted = [one["samples"]["fingerprint"] for one in origins] + [reference["images_fingerprint"]]
        old, new, real = (cache.stored(extractor["name"], extractor["fingerprint"], one) for one in wanted)
    except (KeyError, TypeError, AttributeError):
        return None
    if old is None or new is None or real is None or len(old) != len(new):
        return None
    return old, new, real


def _contributions(
    generated: Features, real: Features, extractor: str, record: RunRecord, device: torch.device | str
) -> dict[str, Contributions]:
    seeds = record.provenance.get("seeds")
    seed = seeds.get("scores", 0) if isinstance(seeds, Mapping) else 0
    return compute_scores(MetricInputs(generated=generated, reference=real, extractor=extractor, seed=seed, device=device))[1]


def _ours(record: RunRecord, name: str) -> bool:
    """Whether a record has this score by our own rules."""
    tags = {score.tag for score in SCORES.values()}
    return any(metric.name == name and metric.protocol in tags for metric in record.metrics)


def _from_stored_moments(record: RunRecord) -> bool:
    """Whether a record's FID was computed from moments stored with the reference."""
    reference = record.provenance.get("reference")
    return isinstance(reference, Mapping) and bool(reference.get("stored_moments"))


def _seeds(record: RunRecord) -> Any:
    """The seed of the sampling job; None for third-party samples, whose images share nothing."""
    seeds = record.provenance.get("seeds")
    if not isinstance(seeds, Mapping) or record.family in ("external", "anchor"):
        return None
    return seeds.get("sampling")
