"""All scores of a set of samples against a reference, with intervals.

Shape letters: N generated, M reference images, D features, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax

from nvgbench.data.image_set import ImageSet
from nvgbench.data.moments import StoredMoments
from nvgbench.errors import InputError
from nvgbench.evaluation.progress import Report, quiet
from nvgbench.evaluation.reference import Reference
from nvgbench.evaluation.rules.base import Rules
from nvgbench.extractors.cache import FeatureCache, Features
from nvgbench.interfaces import FeatureExtractor
from nvgbench.metrics.extrapolation import extrapolated_frechet, fewest_images
from nvgbench.metrics.frechet import distance_to_factor, factor_of_covariance, frechet_distance, gaussian_of
from nvgbench.metrics.inception_score import FIDELITY_SPLITS, SPLIT_SIZE, fidelity_order, inception_score
from nvgbench.metrics.kernel import cmmd, cmmd_stderr, kernel_distance, kernel_stderr
from nvgbench.metrics.moments import Moments
from nvgbench.metrics.prdc import DENSITY_NEIGHBOURS, nearest_distances, neighbour_scores
from nvgbench.metrics.uncertainty import (
    JACKKNIFE,
    centred_interval,
    coverage_interval,
    density_interval,
    frechet_interval,
    inception_score_interval,
    normal_interval,
    recall_interval,
    share_interval,
)
from nvgbench.results.protocols import OWN
from nvgbench.results.scores import INCEPTION, named_score, score_name
from nvgbench.types import Interval, MetricValue

FEWEST_IMAGES = DENSITY_NEIGHBOURS + 1
FEWEST_OF_CLASS = 3
CHEAP_FEATURES = 512
"""Up to so many features an extrapolation takes seconds."""


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """How scores are computed.

    Attributes:
        bootstrap: replicates of the intervals.
        seed: of the bootstrap and the subsets of the kernel distance.
        per_class: also the Fréchet distance of every class (needs labels on both sides).
        extrapolate: also FID∞ above `CHEAP_FEATURES` features, where it takes minutes; below it is always there.
        device: where neighbours and kernels are computed.
    """

    bootstrap: int = 200
    seed: int = 0
    per_class: bool = False
    extrapolate: bool = False
    device: torch.device | str = "cpu"


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores, tables and the identity of what went in."""

    metrics: tuple[MetricValue, ...]
    tables: dict[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)


def evaluate_samples(
    images: ImageSet,
    reference: Reference,
    extractor: FeatureExtractor,
    settings: ScoreSettings,
    *,
    cache: FeatureCache,
    training: ImageSet | None = None,
    rules: Rules | None = None,
    report: Report = quiet,
) -> Scores:
    """Extract features of both sets and compute every score that they allow.

    Args:
        images: the samples; with labels, they are the classes that were asked for.
        reference: what they are held against.
        extractor: images to features.
        settings: see `ScoreSettings`.
        cache: where features are kept.
        training: training images, for the distance of samples to their nearest training image.
        rules: another evaluator's; nvgbench's own where not given.
        report: opens a progress display.

    Raises:
        InputError: too few images, unequal sizes, per-class scores without labels.
    """
    check_sets(images, reference.images, settings)
    all_generated = extract(images, extractor, cache, report, "features of the samples")
    all_real = extract(reference.images, extractor, cache, report, "features of the reference")
    generated, real = _pooled(all_generated, rules), _pooled(all_real, rules)
    protocol = OWN if rules is None else rules.identity.id
    moments, _ = reference.used_moments(protocol, extractor.name)
    metrics = score_features(generated, real, extractor.name, settings, moments=moments if rules is None else None)
    if rules is not None:
        metrics = rules.scores(metrics, all_generated, all_real, reference, settings.seed)
    if extractor.name == "classifier" and images.labels_N is not None:
        metrics.append(_accuracy(generated, images.labels_N))
    if training is not None:
        seen = _pooled(extract(training, extractor, cache, report, "features of the training images"), rules)
        metrics.append(_nearest_training(generated, real, seen, extractor.name, settings))
    tables = {}
    if settings.per_class:
        tables[f"{score_name('FID', extractor.name)} by class"] = per_class_rows(generated, real, images, reference.images)
    if extractor.provenance.get("weights_published") is False:
        metrics = [_noted(metric, "the Inception weights are not the published ones") for metric in metrics]
    provenance = {
        "extractor": {**extractor.provenance, "name": extractor.name, "fingerprint": extractor.fingerprint},
        "reference": reference.identity(real.fingerprint, protocol, extractor.name),
        "samples": {"name": images.name, "fingerprint": generated.fingerprint, "n": len(generated)},
    }
    return Scores(metrics=tuple(metrics), tables=tables, provenance=provenance)


def _pooled(features: Features, rules: Rules | None) -> Features:
    if rules is None:
        return features
    return dataclasses.replace(features, features_ND=rules.pool(features.features_ND))


def _noted(metric: MetricValue, note: str) -> MetricValue:
    return dataclasses.replace(metric, note="; ".join(filter(None, (metric.note, note))))


def check_sets(images: ImageSet, reference: ImageSet, settings: ScoreSettings) -> None:
    """Refuse what cannot be scored before the long work begins.

    Raises:
        InputError: too few images, unequal sizes, per-class scores without labels.
    """
    for what, given in (("samples", images), ("reference", reference)):
        if given.count < FEWEST_IMAGES:
            raise InputError(
                f"{what} {given.name}: {given.count} images are too few for {DENSITY_NEIGHBOURS} nearest neighbours; "
                f"use at least {FEWEST_IMAGES}, better thousands"
            )
    if images.image_size != reference.image_size:
        raise InputError(
            f"samples {images.name} have {images.image_size} px, the reference {reference.name} has {reference.image_size} px; "
            "resize one of them beforehand"
        )
    if settings.per_class:
        for what, given in (("samples", images), ("reference", reference)):
            if given.labels_N is None:
                raise InputError(f"scores by class need labels, and the {what} {given.name} have none; add arr_1 to the npz")


def extract(images: ImageSet, extractor: FeatureExtractor, cache: FeatureCache, report: Report, what: str) -> Features:
    """Features of a set through the cache."""
    with report(what) as update:
        return cache.extract(images.chunks(), extractor, lambda done: update(done, images.count))


def score_features(
    generated: Features,
    real: Features,
    extractor: str,
    settings: ScoreSettings,
    *,
    moments: StoredMoments | None = None,
) -> list[MetricValue]:
    """Fréchet distance, Inception Score, precision, recall, density, coverage and kernel distance from features.

    Args:
        generated, real: features of both sets.
        extractor: its name, which goes into the names of the scores.
        settings: see `ScoreSettings`.
        moments: stored moments of the reference; they replace those of ``real`` in FID, as in guided-diffusion's evaluator.
    """
    x, y = generated.features_ND, real.features_ND
    return [
        *_frechet(x, y, extractor, settings, moments if extractor == INCEPTION else None),
        *(_inception_scores(generated.logits_NK, extractor, settings) if generated.logits_NK.shape[1] else ()),
        *_neighbours(x, y, extractor, settings),
        _kernel(x, y, extractor, settings),
        *([_cmmd(x, y, settings)] if extractor == "clip" else ()),
    ]


def value_of(
    score: str,
    extractor: str | None,
    value: float,
    n: int,
    interval: Interval | None,
    n_reference: int | None = None,
    note: str = "",
) -> MetricValue:
    """A `MetricValue` with the name, direction and unit of ``score``; its interval is cut to what the score can be."""
    known = named_score(score)
    return MetricValue(
        name=known.called(extractor),
        value=value,
        n=n,
        n_reference=n_reference,
        unit=known.unit,
        higher_is_better=known.higher_is_better,
        interval=None if interval is None else known.clip(interval),
        protocol=known.tag,
        note=note,
    )


def per_class_rows(generated: Features, real: Features, images: ImageSet, reference: ImageSet) -> list[dict[str, Any]]:
    """Fréchet distance of each class with its 95 % interval, where both sides have at least three images of it."""
    assert images.labels_N is not None
    assert reference.labels_N is not None
    rows = []
    for label in np.unique(images.labels_N):
        x, y = generated.features_ND[images.labels_N == label], real.features_ND[reference.labels_N == label]
        row: dict[str, Any] = {
            "class": int(label),
            "n": len(x),
            "n_reference": len(y),
            "value": None,
            "low": None,
            "high": None,
        }
        if min(len(x), len(y)) >= FEWEST_OF_CLASS:
            centre, factor = gaussian_of(y)
            row["value"] = distance_to_factor(x, centre, factor)
            interval = frechet_interval(row["value"], x, centre, factor)
            row |= {"low": max(interval.low, 0.0), "high": interval.high}
        rows.append(row)
    return rows


def _frechet(
    x: NDArray, y: NDArray, extractor: str, settings: ScoreSettings, moments: StoredMoments | None
) -> Iterable[MetricValue]:
    """FID, and FID∞ where it is cheap or asked for and there are images enough."""
    n, features = x.shape
    if moments is not None:
        own = Moments.of(x)
        value = frechet_distance(own.mean, own.covariance, moments.mean_D, moments.covariance_DD)
        centre, factor, note = moments.mean_D, factor_of_covariance(moments.covariance_DD), "moments stored with the reference"
    else:
        centre, factor = gaussian_of(y)
        value, note = distance_to_factor(x, centre, factor), ""
    found = value_of("FID", extractor, value, n, frechet_interval(value, x, centre, factor), len(y), note)
    if n <= features:
        found = _noted(found, f"fewer images than features ({features}): strongly biased, compare equal n only")
    yield found
    if n >= fewest_images(features) and (settings.extrapolate or features <= CHEAP_FEATURES):
        limit = extrapolated_frechet(x, centre, factor, seed=settings.seed)
        interval = normal_interval(limit.value, limit.stderr, f"{JACKKNIFE} of the line")
        note = (
            f"line over 1 / N through {', '.join(map(str, limit.sizes))} images, slope {limit.slope:.4g}, seed {settings.seed}"
        )
        yield dataclasses.replace(value_of("FID∞", extractor, limit.value, n, interval, len(y), note), stderr=limit.stderr)


def _inception_scores(logits: NDArray, extractor: str, settings: ScoreSettings) -> Iterable[MetricValue]:
    """Ten splits as torch-fidelity shuffles and cuts them; above one split of 5,000 also those in the order given."""
    n = len(logits)
    variants: list[tuple[str, NDArray, int | None]] = [("IS", fidelity_order(n), min(FIDELITY_SPLITS, n))]
    if n > SPLIT_SIZE:
        variants.append(("IS-ordered", np.arange(n), None))
    for name, chosen, splits in variants:
        score = inception_score(logits[chosen], splits=splits, shuffle_seed=None)
        log_p = log_softmax(logits[chosen].astype(np.float64), axis=1)
        interval = inception_score_interval(score.mean, log_p, splits=splits)
        yield value_of(name, extractor, score.mean, n, interval)


def _neighbours(x: NDArray, y: NDArray, extractor: str, settings: ScoreSettings) -> list[MetricValue]:
    found = neighbour_scores(x, y, device=settings.device)
    n = len(x)
    intervals = {
        "precision": share_interval(found.inside_N),
        "recall": recall_interval(found.recall, found.recall_contributions_R, found.reached_M),
        "density": density_interval(found.density_N),
        "coverage": coverage_interval(found.coverage, found.coverage_hits_Mh, n),
    }
    return [value_of(name, extractor, getattr(found, name), n, interval, len(y)) for name, interval in intervals.items()]


def _kernel(x: NDArray, y: NDArray, extractor: str, settings: ScoreSettings) -> MetricValue:
    found = kernel_distance(x, y, seed=settings.seed, device=settings.device)
    # The draw of the subsets moves the mean too, by more than the images where there are many of them.
    stderr = float(np.hypot(kernel_stderr(x, y, device=settings.device), found.std / np.sqrt(found.subsets)))
    interval = normal_interval(found.mean, stderr, "Hájek projection and the draw of the subsets")
    note = f"{found.subsets} subsets of {found.subset_size}, standard deviation {found.std:.3g}"
    return dataclasses.replace(value_of("KID", extractor, found.mean, len(x), interval, len(y), note), stderr=stderr)


def _cmmd(x: NDArray, y: NDArray, settings: ScoreSettings) -> MetricValue:
    value, stderr = cmmd(x, y, device=settings.device), cmmd_stderr(x, y, device=settings.device)
    found = value_of("CMMD", "clip", value, len(x), normal_interval(value, stderr, "Hájek projection"), len(y))
    return dataclasses.replace(found, stderr=stderr)


def _accuracy(generated: Features, labels_N: NDArray[np.int64]) -> MetricValue:
    classes = generated.logits_NK.shape[1]
    if labels_N.max() >= classes:
        raise InputError(f"the samples have class {labels_N.max()}, the classifier knows 0 to {classes - 1}")
    right = generated.logits_NK.argmax(axis=1) == labels_N
    interval = share_interval(right)
    return value_of("accuracy", "classifier", float(right.mean()), len(right), interval)


def _nearest_training(
    generated: Features, real: Features, training: Features, extractor: str, settings: ScoreSettings
) -> MetricValue:
    """Median distance of samples to the nearest training image over the same of held-out images."""
    near = nearest_distances(generated.features_ND, training.features_ND, device=settings.device)
    usual = float(np.median(nearest_distances(real.features_ND, training.features_ND, device=settings.device)))
    if usual == 0:
        raise InputError("the reference consists of training images; compare with held-out ones")
    rng = np.random.default_rng(settings.seed)
    medians = [np.median(near[rng.integers(len(near), size=len(near))]) / usual for _ in range(settings.bootstrap)]
    value = float(np.median(near)) / usual
    interval = centred_interval(value, np.array(medians), f"bootstrap over generated images, {settings.bootstrap} replicates")
    note = f"{len(training)} training images"
    return value_of("nearest-training-ratio", extractor, value, len(near), interval, len(real), note)
