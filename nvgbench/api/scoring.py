"""Scores of images or features, and their comparison."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nvgbench.api.inputs import Generated, Scorable, features_of, generated_images, reference_images
from nvgbench.device import resolve_device
from nvgbench.errors import InputError
from nvgbench.evaluation.lint.checks import check_classes_fit
from nvgbench.evaluation.paired import margins, paired_margins
from nvgbench.evaluation.recording import provenance
from nvgbench.evaluation.reference import Reference, match_labels
from nvgbench.evaluation.rules.base import Rules
from nvgbench.evaluation.rules.catalog import open_rules
from nvgbench.evaluation.scores import (
    CHOICES,
    Scores,
    ScoreSettings,
    check_counts,
    check_sets,
    check_statistics,
    chosen_scores,
    compute_scores,
    evaluate_samples,
)
from nvgbench.extractors.cache import FeatureCache
from nvgbench.extractors.registry import CLASSIFIER, ExtractorRequest, check_extractor, open_extractor
from nvgbench.files import StrPath
from nvgbench.interfaces import FeatureExtractor
from nvgbench.metrics.metric import MetricInputs
from nvgbench.results.compare import Comparison, Margin, Scored, compare_all, latest_metrics
from nvgbench.results.lookup import scores_of
from nvgbench.results.protocols import OWN
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import INCEPTION
from nvgbench.results.weights import unfinished
from nvgbench.types import Features, MetricValue


class PrecisionRecall(NamedTuple):
    """Precision and recall (Kynkäänniemi et al. 2019)."""

    precision: MetricValue
    recall: MetricValue


class DensityCoverage(NamedTuple):
    """Density and coverage (Naeem et al. 2020)."""

    density: MetricValue
    coverage: MetricValue


def fid(generated: Scorable, reference: Scorable | None = None, **options: Any) -> MetricValue:
    """Fréchet distance between the Gaussians fitted to two sets of features, with its 95 % interval (Heusel et al. 2017).

    It is called FID with the Inception network of the papers, and ``FD[name]`` with any other extractor or with features whose
    extractor is unknown.

    Args:
        generated, reference, options: as for `score`.

    Example:
        >>> import numpy as np, nvgbench as nb
        >>> x, y = np.random.default_rng(0).standard_normal((2, 500, 16))
        >>> value = nb.fid(x + 0.5, y)
        >>> value.name, value.n
        ('FD[features]', 500)
        >>> value.interval.low < float(value) < value.interval.high
        True
    """
    return score(generated, reference, metrics=["FID"], **options)["FID"]


def kid(generated: Scorable, reference: Scorable | None = None, **options: Any) -> MetricValue:
    """Kernel distance: unbiased squared MMD with the cubic kernel, over 100 subsets of 1,000 (Bińkowski et al. 2018).

    Args:
        generated, reference, options: as for `score`.

    Example:
        >>> import numpy as np, nvgbench as nb
        >>> x, y = np.random.default_rng(0).standard_normal((2, 300, 8))
        >>> float(nb.kid(x + 1, y)) > float(nb.kid(x, y))
        True
    """
    return score(generated, reference, metrics=["KID"], **options)["KID"]


def inception_score(generated: Scorable, **options: Any) -> MetricValue:
    """Inception Score in ten shuffled splits, as torch-fidelity computes it (Salimans et al. 2016).

    Args:
        generated: class logits ``[N, K]`` (floats), or images as for `score`.
        options: as for `score`.

    Example:
        >>> import numpy as np, nvgbench as nb
        >>> certain = 100 * np.eye(10)[np.arange(500) % 10]
        >>> round(float(nb.inception_score(certain)), 1)
        9.2
    """
    logits = features_of(generated)
    if logits is not None:
        options |= {"logits": logits.features_ND}
    return score(generated, metrics=["IS"], **options)["IS"]


def precision_recall(generated: Scorable, reference: Scorable | None = None, **options: Any) -> PrecisionRecall:
    """Improved precision and recall, k = 3.

    Args:
        generated, reference, options: as for `score`.

    Example:
        >>> import numpy as np, nvgbench as nb
        >>> x, y = np.random.default_rng(0).standard_normal((2, 200, 4))
        >>> precision, recall = nb.precision_recall(0.1 * x, y)
        >>> precision.value > recall.value
        True
    """
    found = score(generated, reference, metrics=["precision", "recall"], **options)
    return PrecisionRecall(found["precision"], found["recall"])


def density_coverage(generated: Scorable, reference: Scorable | None = None, **options: Any) -> DensityCoverage:
    """Density and coverage, k = 5.

    Args:
        generated, reference, options: as for `score`.

    Example:
        >>> import numpy as np, nvgbench as nb
        >>> x, y = np.random.default_rng(0).standard_normal((2, 200, 4))
        >>> density, coverage = nb.density_coverage(x, y)
        >>> 0 <= coverage.value <= 1
        True
    """
    found = score(generated, reference, metrics=["density", "coverage"], **options)
    return DensityCoverage(found["density"], found["coverage"])


def score(
    generated: Scorable,
    reference: Scorable | None = None,
    *,
    extractor: str | None = None,
    protocol: str = OWN,
    metrics: Sequence[str] | None = None,
    labels: Any = None,
    logits: Any = None,
    n: int = 2000,
    seed: int = 0,
    name: str | None = None,
    per_class: bool = False,
    thorough: bool = False,
    weights: StrPath | None = None,
    batch_size: int = 64,
    device: str = "auto",
    cache: StrPath | None = None,
    runs: StrPath = "runs",
    force: bool = False,
    kid_subsets: int = 100,
    kid_subset_size: int = 1000,
    is_splits: int = 10,
) -> Scores:
    """Every score of generated images (or of their features) against a reference, with 95 % intervals.

    Args:
        generated: features (float ``[N, D]``), images (uint8 ``[N, H, W, 3]``, or a tensor ``[N, 3, H, W]``), an npz, a folder
            of images, a run (sampled here), or `Samples`.
        reference: the same, or a data source such as ``cifar10`` (its held-out images). If None, the held-out images of the
            run's own data; not needed for scores of the samples alone (IS).
        extractor: ``inception`` (default), ``classifier`` (trained here on the data source), ``dinov2``, ``clip`` …
            For features, the name of what extracted them.
        protocol: whose rules: ``nvgbench``, ``adm``, ``torch-fidelity``, ``clean-fid`` …
        metrics: names of scores or metrics; all that can be computed if None.
        labels: int classes ``[N]`` of images in memory.
        logits: class logits ``[N, K]`` that belong to features, for the Inception Score.
        n: number of samples of a run.
        seed: of the samples of a run and of everything drawn at random in the scores.
        name: of what is scored, for tables.
        per_class: also the Fréchet distance of every class.
        thorough: also what takes minutes: FID∞ with many features.
        weights: file of the Inception weights, or folder of those of dinov2 or clip.
        batch_size: images per batch.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        cache: folder in which features are kept; nowhere if None.
        runs: folder of the runs, in which trained classifiers are kept too.
        force: score although the classes of samples and reference differ, or a run's data are others now.
        kid_subsets, kid_subset_size: number and size of the subsets of the kernel distance.
        is_splits: splits of the Inception Score. Scores with other splits or subsets are not compared.

    Raises:
        InputError: input that cannot be used; the message says which and how to fix it.

    Example:
        >>> import numpy as np, nvgbench as nb
        >>> x, y = np.random.default_rng(0).standard_normal((2, 300, 8)).astype("float32")
        >>> scores = nb.score(x, y, metrics=["FID", "KID"])
        >>> list(scores)
        ['FD[features]', 'KD[features]']
        >>> int(scores.to_frame().loc["FD[features]", "n"])
        300
    """
    place = resolve_device(device)
    settings = ScoreSettings(
        metrics=metrics, seed=seed, per_class=per_class, thorough=thorough, protocol=protocol,
        kid_subsets=kid_subsets, kid_subset_size=kid_subset_size, is_splits=is_splits, device=place,
    )  # fmt: skip
    features = features_of(generated, logits)
    if features is not None:
        return _score_features(features, reference, settings, extractor=extractor, protocol=protocol, name=name, labels=labels)
    found = generated_images(generated, n=n, seed=seed, labels=labels, runs=runs, own_data=reference is None, force=force)
    if reference is None and found.data is None and not settings.needs_reference:
        reference = found.images
    target, data = reference_images(reference, found, runs=runs)
    rules = open_rules(protocol, place)
    images, target = match_labels(found.images, target)
    found = dataclasses.replace(found, images=images if name is None else dataclasses.replace(images, name=name))
    _warn(found, target, force)
    check_sets(found.images, target.images, settings)  # before a classifier is trained
    check_statistics(target, settings, extractor or INCEPTION)
    request = ExtractorRequest(device=place, weights=weights, data=data, folder=Path(runs, "_extractors"))
    network = _network(extractor or INCEPTION, request, rules, found.images.image_size)
    kept = FeatureCache(None if cache is None else Path(cache), batch_size=batch_size)
    scores = evaluate_samples(found.images, target, network, settings, cache=kept, rules=rules)
    origin = provenance(
        protocol, place, **{"seeds": {"scores": seed}} | dict(found.provenance), n=found.images.count, **scores.provenance
    )
    return dataclasses.replace(scores, subject=found.images.name, family=found.family, provenance=origin)


def _warn(found: Generated, target: Reference, force: bool) -> None:
    """What stands against relying on the scores: unfinished weights, other classes if they are forced."""
    if early := unfinished(found.provenance.get("model")):
        warnings.warn(f"{found.images.name} is {early}", stacklevel=3)
    for finding in check_classes_fit(found.images, target.images, found.num_classes, force=force):
        warnings.warn(str(finding), stacklevel=3)


def compare(
    baseline: Scores | RunRecord | StrPath,
    candidate: Scores | RunRecord | StrPath,
    *,
    metrics: Sequence[str] = (),
    paired: bool | None = None,
    force: bool = False,
    runs: StrPath = "runs",
    device: str = "auto",
) -> Comparison:
    """Whether the candidate is better or worse than the baseline, score by score, or whether the data leave it open.

    Image by image if both were sampled with the same seeds and classes, which narrows the intervals.

    Args:
        baseline, candidate: `Scores`, records, or names of runs with recorded scores.
        metrics: only these scores; all that both have if empty.
        paired: whether image i of both was drawn from the same noise and class; found out from their seeds if None.
        force: compare scores that are not comparable, and mark them.
        runs: folder of the runs; cached features are in its ``_features``.
        device: where errors of differences are computed from cached features.

    Raises:
        InputError: nothing to compare, or scores that are not comparable.

    Example:
        >>> import numpy as np, nvgbench as nb
        >>> x, y = np.random.default_rng(0).standard_normal((2, 400, 8))
        >>> worse = nb.compare(nb.score(x, y, name="a"), nb.score(x + 0.5, y, name="b"), paired=True)
        >>> worse.verdict
        'worse'
        >>> worse["FD[features]"].paired
        True
    """
    place = resolve_device(device)
    both = [one if isinstance(one, Scores) else None for one in (baseline, candidate)]

    def errors(old: RunRecord, new: RunRecord) -> dict[str, Margin]:
        first, second = both
        if first is None or second is None:
            return dict(paired_margins(old, new, Path(runs), device=place))
        if not first.contributions or not second.contributions:
            return {}
        same = _same_seeds(first, second) if paired is None else paired
        return margins(first.contributions, second.contributions, paired=same)

    names = tuple(_name(one) for one in (baseline, candidate))
    return compare_all(
        _scored(baseline, runs),
        _scored(candidate, runs),
        metrics=metrics,
        margins=errors,
        force=force,
        names=(names[0], names[1]),
    )


def _network(name: str, request: ExtractorRequest, rules: Rules | None, image_size: int) -> FeatureExtractor:
    """The network of the rules, or the named one; a network trained here sees images of the samples' size."""
    check_extractor(name, request.weights)
    if rules is not None:
        return rules.extractor(request)
    data = None if request.data is None else dataclasses.replace(request.data, image_size=image_size)
    return open_extractor(name, dataclasses.replace(request, data=data))


def _score_features(
    generated: Features,
    reference: Any,
    settings: ScoreSettings,
    *,
    extractor: str | None,
    protocol: str,
    name: str | None,
    labels: Any,
) -> Scores:
    real = generated if reference is None and not settings.needs_reference else features_of(reference)
    if real is None:
        raise InputError("features are compared with features [M, D] of the same extractor; give them as `reference=`")
    if protocol != OWN:
        raise InputError(f"`protocol={protocol!r}` begins with images; for features leave it out")
    check_counts(settings, {"samples": len(generated), "reference": len(real)})
    label = extractor or "features"
    inputs = MetricInputs(
        generated=generated,
        reference=real,
        extractor=label,
        labels_N=None if labels is None or label != CLASSIFIER else np.asarray(labels, dtype=np.int64),
        seed=settings.seed,
        thorough=settings.thorough,
        **{name: getattr(settings, name) for name in CHOICES},
        device=settings.device,
    )
    values, contributions = compute_scores(inputs, settings.metrics)
    origin = provenance(
        protocol,
        settings.device,
        seeds={"scores": settings.seed},
        n=len(generated),
        extractor={"name": label},
        reference={"name": "features", "fingerprint": real.fingerprint, "n": len(real)},
        samples={"name": name or "features", "fingerprint": generated.fingerprint, "n": len(generated)},
        choices=settings.choices,
    )
    scores = Scores(metrics=tuple(values), subject=name or "features", provenance=origin, contributions=contributions)
    return chosen_scores(scores, settings.metrics)


def _scored(given: Scores | RunRecord | StrPath, runs: StrPath) -> dict[str, Scored]:
    if isinstance(given, Scores | RunRecord):
        record = given.record if isinstance(given, Scores) else given
        return latest_metrics([record], [record.kind])[record.subject]
    return scores_of(given, runs)


def _name(given: Scores | RunRecord | StrPath) -> str:
    return given.subject if isinstance(given, Scores | RunRecord) else os.fspath(given)


def _same_seeds(first: Scores, second: Scores) -> bool:
    """Whether image i of both was drawn from the same seed and class."""
    origins = [(one.provenance["seeds"].get("sampling"), one.provenance.get("classes")) for one in (first, second)]
    return origins[0][0] is not None and origins[0] == origins[1]
