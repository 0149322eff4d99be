"""All scores of a set of samples against a reference, with intervals.

Shape letters: N generated, M reference images, D features, K classes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from nvgbench.data.image_set import ImageSet
from nvgbench.errors import InputError
from nvgbench.evaluation.reference import Reference
from nvgbench.evaluation.rules.base import BASIS, Rules
from nvgbench.evaluation.values import metric_value
from nvgbench.extractors.cache import FeatureCache
from nvgbench.extractors.registry import CLASSIFIER
from nvgbench.interfaces import FeatureExtractor
from nvgbench.metrics.frechet import distance_to_factor, frechet_contributions, gaussian_of
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.registry import select_metrics
from nvgbench.metrics.uncertainty import Contributions, interval_of
from nvgbench.progress import Report, quiet
from nvgbench.results.protocols import OWN
from nvgbench.results.records import to_frame
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import INCEPTION, SCORES, named_score, score_name, score_of
from nvgbench.types import Features, MetricValue

if TYPE_CHECKING:
    import pandas

FEWEST_OF_CLASS = 3
CHOICES = tuple(dict.fromkeys(choice for score in SCORES.values() for choice in score.choices))


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """How scores are computed.

    Attributes:
        metrics: names of the scores or metrics to compute; all if None.
        seed: of everything that a score draws.
        per_class: also compute the Fréchet distance of every class (needs labels on both sides).
        thorough: also compute what takes minutes: FID∞ with many features.
        protocol: whose rules; those of others need every metric of `nvgbench.evaluation.rules.base.BASIS`.
        kid_subsets, kid_subset_size: number and size of the subsets of the kernel distance.
        is_splits: splits of the Inception Score.
        device: where neighbours and kernels are computed.
    """

    metrics: Sequence[str] | None = None
    seed: int = 0
    per_class: bool = False
    thorough: bool = False
    protocol: str = OWN
    kid_subsets: int = 100
    kid_subset_size: int = 1000
    is_splits: int = 10
    device: torch.device | str = "cpu"

    @property
    def fewest_images(self) -> int:
        """The smallest number of images per set that all chosen metrics can work with."""
        return max(metric.fewest_images for metric in select_metrics(self.metrics if self.protocol == OWN else None))

    @property
    def choices(self) -> dict[str, int]:
        """The numbers of subsets and splits that differ from the defaults; scores with others are not comparable."""
        given = {name: getattr(self, name) for name in CHOICES}
        return {name: value for name, value in given.items() if value != getattr(ScoreSettings, name)}

    @property
    def needs_reference(self) -> bool:
        """Whether any chosen metric compares with reference images."""
        return any(score.needs_reference for metric in select_metrics(self.metrics) for score in metric.scores)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Scores(Mapping[str, MetricValue]):
    """Values by name, and the identity of what they were computed from.

    A score is found by its recorded name (``FD[classifier]``) or by its name in the table of scores (``FID``).

    Attributes:
        metrics: the values, in the order of their computation.
        subject: what was scored.
        family: of the model, ``anchor`` or ``external``.
        tables: longer results by name.
        provenance: extractor, reference, samples, protocol, seeds, machine.
        contributions: recorded name -> where a value's error comes from, for paired comparisons.
    """

    metrics: tuple[MetricValue, ...]
    subject: str = "samples"
    family: str = "external"
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    contributions: Mapping[str, Contributions] = field(default_factory=dict)

    def __getitem__(self, name: str) -> MetricValue:
        for value in self.metrics:
            score = score_of(value.name)
            if name == value.name or (score is not None and name == score.name):
                return value
        raise KeyError(f"no score {name!r}; there are {', '.join(self)}")

    def __iter__(self) -> Iterator[str]:
        return (value.name for value in self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    @cached_property
    def record(self) -> RunRecord:
        """The scores as an evaluation records them."""
        return RunRecord(
            kind="eval",
            subject=self.subject,
            family=self.family,
            metrics=self.metrics,
            tables=self.tables,
            provenance=self.provenance,
        )

    def to_frame(self) -> pandas.DataFrame:
        """One row per score, by its recorded name; see `nvgbench.results.records.to_frame`."""
        return to_frame([self.record]).set_index("metric")

    def __repr__(self) -> str:
        return "\n".join([f"{self.subject}:", *(f"  {value!r}" for value in self.metrics)])

    def _repr_html_(self) -> str:
        return str(self.to_frame().to_html())


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
    """Extract the features of both sets and compute every score that they allow.

    Args:
        images: the samples; their labels, if any, are the requested classes.
        reference: what they are compared with.
        extractor: images to features.
        settings: see `ScoreSettings`.
        cache: where features are kept.
        training: training images, for the distance of samples to the nearest training image.
        rules: another evaluator's rules; nvgbench's own if None.
        report: opens a progress display.

    Raises:
        InputError: too few images, unequal sizes, per-class scores without labels.
    """
    check_sets(images, reference.images, settings)
    check_statistics(reference, settings, extractor.name)
    all_generated = extract(images, extractor, cache, report, "features of the samples")
    if reference.statistics_only:
        all_real = Features(all_generated.features_ND[:0], all_generated.logits_NK[:0], "")
    else:
        all_real = extract(reference.images, extractor, cache, report, "features of the reference")
    generated, real = _pooled(all_generated, rules), _pooled(all_real, rules)
    protocol = OWN if rules is None else rules.identity.id
    moments, _ = reference.used_moments(protocol, extractor.name)
    seen = None if training is None else extract(training, extractor, cache, report, "features of the training images")
    inputs = MetricInputs(
        generated=generated,
        reference=real,
        extractor=extractor.name,
        moments=(moments.mean_D, moments.covariance_DD) if moments is not None and rules is None else None,
        labels_N=logit_labels(images, reference.images, extractor),
        training=None if seen is None else _pooled(seen, rules),
        seed=settings.seed,
        thorough=settings.thorough,
        **{name: getattr(settings, name) for name in CHOICES},
        device=settings.device,
    )
    if rules is None:
        names = possible_metrics(settings.metrics) if reference.statistics_only else settings.metrics
        values, contributions = compute_scores(inputs, names)
    else:
        exact = [] if reference.statistics_only else compute_scores(inputs, BASIS)[0]
        values = rules.scores(exact, all_generated, all_real, reference, settings.seed)
        values += compute_scores(inputs, ["nearest-training"])[0]
        contributions = {}
    tables = {}
    if settings.per_class:
        tables[f"{score_name('FID', extractor.name)} by class"] = per_class_rows(generated, real, images, reference.images)
    if reference.statistics_only:
        values = [
            value if value.n_reference is None else dataclasses.replace(value, n_reference=reference.count) for value in values
        ]
    if extractor.provenance.get("weights_published") is False:
        values = [_noted(value, "the Inception weights are not the published ones") for value in values]
    fit = {} if images.fit is None else {"fit": str(images.fit)}
    provenance: dict[str, Any] = {
        "extractor": {**extractor.provenance, "name": extractor.name, "fingerprint": extractor.fingerprint},
        "reference": reference.identity(real.fingerprint, protocol, extractor.name),
        "samples": {"name": images.name, "fingerprint": generated.fingerprint, "n": len(generated), **fit},
    }
    if missing := _left_out(reference, values, protocol):
        provenance["missing"] = missing
    if choices := {**settings.choices, **fit}:
        provenance["choices"] = choices
    scores = Scores(metrics=tuple(values), tables=tables, provenance=provenance, contributions=contributions)
    return chosen_scores(scores, settings.metrics)


def chosen_scores(scores: Scores, names: Sequence[str] | None) -> Scores:
    """The named scores alone; a metric that shares its work with others computes those too.

    Raises:
        InputError: a named score could not be computed from what was given.
    """
    if names is None:
        return scores
    words = {value.name: _words(value) for value in scores.metrics}
    for name in names:
        if not any(name in known for known in words.values()):
            raise InputError(f"{name} cannot be computed from what was given; computed: {', '.join(scores) or 'nothing'}")
    kept = tuple(value for value in scores.metrics if words[value.name] & set(names))
    return dataclasses.replace(scores, metrics=kept)


def _words(value: MetricValue) -> set[str]:
    """What a score may be asked for by: its names, and the metric that computes it."""
    known = score_of(value.name)
    return {value.name} if known is None else {value.name, known.name, known.stem, known.metric}


def compute_scores(
    inputs: MetricInputs, names: Sequence[str] | None = None
) -> tuple[list[MetricValue], dict[str, Contributions]]:
    """The chosen scores that the inputs allow, in the registry's order: values, and contributions by recorded name.

    Args:
        inputs: features and settings.
        names: scores or metrics; all if None.
    """
    n, n_reference = len(inputs.generated), len(inputs.reference)
    values: list[MetricValue] = []
    contributions: dict[str, Contributions] = {}
    for metric in select_metrics(names):
        for score, found in metric.compute(inputs).items():
            compared = n_reference if named_score(score).needs_reference else None
            value = metric_value(score, inputs.extractor, found, n, compared)
            values.append(value)
            contributions[value.name] = found
    return values, contributions


def logit_labels(images: ImageSet, reference: ImageSet, extractor: FeatureExtractor) -> NDArray[np.int64] | None:
    """The labels of the samples as indices of the extractor's logits; None if unknown, or if it does not know their classes.

    Args:
        images: the samples.
        reference: for the names of their classes, if the samples have none.
        extractor: the classifier, which learned these very classes, or one with ``class_names``.
    """
    labels_N, names = images.labels_N, images.classes or reference.classes
    if labels_N is None or extractor.name == CLASSIFIER:
        return labels_N
    known = {name: index for index, name in enumerate(getattr(extractor, "class_names", ()))}
    if not names or not set(names) <= set(known) or labels_N.max() >= len(names):
        return None
    return np.array([known[name] for name in names])[labels_N]


def _pooled(features: Features, rules: Rules | None) -> Features:
    if rules is None:
        return features
    return dataclasses.replace(features, features_ND=rules.pool(features.features_ND))


def _noted(value: MetricValue, note: str) -> MetricValue:
    return dataclasses.replace(value, note="; ".join(filter(None, (value.note, note))))


def check_sets(images: ImageSet, reference: ImageSet, settings: ScoreSettings) -> None:
    """Refuse what cannot be scored before any work begins.

    Raises:
        InputError: too few images, unequal sizes, per-class scores without labels.
    """
    counts = {f"samples {images.name}": images.count}
    if reference.count:  # without images it holds statistics
        counts[f"reference {reference.name}"] = reference.count
    check_counts(settings, counts)
    if images.image_size != reference.image_size:
        raise InputError(
            f"samples {images.name} have {images.image_size} px, the reference {reference.name} has {reference.image_size} px; "
            "resize one of them beforehand"
        )
    if settings.per_class:
        for what, given in (("samples", images), ("reference", reference)):
            if given.labels_N is None:
                raise InputError(f"per-class scores need labels, and the {what} {given.name} have none; add arr_1 to the npz")


def possible_metrics(names: Sequence[str] | None) -> list[str]:
    """Names of the chosen metrics that need no reference images: those of the samples alone, and distances from moments."""
    return [
        metric.scores[0].name
        for metric in select_metrics(names)
        if any(score.takes_moments or not score.needs_reference for score in metric.scores)
    ]


def check_statistics(reference: Reference, settings: ScoreSettings, extractor: str) -> None:
    """Refuse what statistics without images cannot give, before any work begins.

    Raises:
        InputError: other features than Inception's, rules that need images, or chosen metrics of which none is possible.
    """
    if not reference.statistics_only:
        return
    name = reference.images.name
    if extractor != INCEPTION:
        raise InputError(
            f"{name} holds statistics of Inception features and no images, got `extractor={extractor!r}`; "
            "use `extractor='inception'`, or a reference with images"
        )
    if settings.protocol not in (OWN, "adm"):
        raise InputError(
            f"{name} holds statistics and no images, which the protocol {settings.protocol} needs; "
            "use `protocol='nvgbench'` or `protocol='adm'`"
        )
    if settings.metrics is not None and not possible_metrics(settings.metrics):
        raise InputError(f"{name} holds statistics and no images, which {', '.join(settings.metrics)} takes; ask for FID or IS")
    if reference.moments is None and settings.protocol == OWN:
        raise InputError(f"{name} holds no mu and sigma; its mu_s and sigma_s serve sFID alone, with `protocol='adm'`")


def _left_out(reference: Reference, values: Sequence[MetricValue], protocol: str) -> dict[str, str]:
    """Name of each score that the reference cannot give -> why."""
    if not reference.statistics_only:
        return {}
    found = {value.name for value in values}
    wanted: Sequence[str] = ("precision", "recall", "FID", "sFID")
    if protocol == OWN:
        images = [score for score in SCORES.values() if score.needs == {"features", "reference"} and not score.takes_moments]
        # FDr belongs to a set of extractors, not to one.
        wanted = [score.name for score in images if score.extractor is None and score.name != "FDr"]
    reason = f"the reference {reference.images.name} holds statistics and no images"
    return {name: reason for name in wanted if name not in found}


def check_counts(settings: ScoreSettings, counts: Mapping[str, int]) -> None:
    """Refuse sets that are too small for the chosen scores.

    Raises:
        InputError: names the set and the number that it takes.
    """
    for what, count in counts.items():
        if count < settings.fewest_images:
            raise InputError(f"{what}: {count} images are too few; use at least {settings.fewest_images}")


def extract(images: ImageSet, extractor: FeatureExtractor, cache: FeatureCache, report: Report, what: str) -> Features:
    """Features of a set, through the cache."""
    with report(what) as update:
        return cache.extract(images.chunks(), extractor, lambda done: update(done, images.count))


def per_class_rows(generated: Features, real: Features, images: ImageSet, reference: ImageSet) -> list[dict[str, Any]]:
    """Fréchet distance of each class with its 95 % interval, if both sides have at least three images of it."""
    assert images.labels_N is not None
    assert reference.labels_N is not None
    rows = []
    for label in np.unique(images.labels_N):
        x, y = generated.features_ND[images.labels_N == label], real.features_ND[reference.labels_N == label]
        row: dict[str, Any] = {"class": int(label), "n": len(x), "n_reference": len(y)}
        row |= dict.fromkeys(("value", "low", "high"))
        if min(len(x), len(y)) >= FEWEST_OF_CLASS:
            distance = frechet_with_error(x, y)
            row["value"] = distance.value
            if (interval := interval_of(distance)) is not None:
                row |= {"low": named_score("FID").clip(interval).low, "high": interval.high}
        rows.append(row)
    return rows


def frechet_with_error(x: NDArray[np.float32], y: NDArray[np.float32]) -> Contributions:
    """The Fréchet distance of features ``x`` ``[N, D]`` from ``y`` ``[M, D]`` with its error, without cautions."""
    centre, factor = gaussian_of(y)
    return Contributions(value=distance_to_factor(x, centre, factor), parts=frechet_contributions(x, centre, factor))
