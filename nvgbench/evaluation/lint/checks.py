"""What is wrong with a set of samples before it is scored, and which score it would move.

Each check examines one thing and reports nothing for a set that is in order. Checks do not refuse anything; what cannot be
scored at all is refused when it is opened. Shape letters: N images, K classes, M images examined closely.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from nvgbench.config.schema import RunConfig
from nvgbench.data.image_set import ImageSet
from nvgbench.errors import InputError
from nvgbench.evaluation.lint.pixels import BLOCK, Pixels
from nvgbench.interfaces import FeatureExtractor
from nvgbench.metrics.inception_score import SPLIT_SIZE
from nvgbench.results.scores import INCEPTION

PUBLISHED_N = 50_000
"""Samples behind published values that use stored reference statistics (guided-diffusion's evaluator)."""
_SURE = 1e-6
"""Probability of a false alarm per test and set."""
_MOST_CLASSES = 1_000_000
"""Larger labels are arbitrary numbers rather than a range of classes, so classes between them are not missing."""
_FAR = 6.0
"""Number of standard errors that counts as certain."""


@dataclass(frozen=True)
class Finding:
    """Something that moves scores.

    Attributes:
        check: its name.
        severity: ``warning``, or ``forced`` if a refusal was overruled.
        message: one line: what was found, and which score it moves in which direction.
    """

    check: str
    severity: Literal["warning", "forced"]
    message: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.check}: {self.message}"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is checked.

    Attributes:
        images, pixels: the samples, and the statistics of their pixels.
        reference, reference_pixels: what they will be compared with, if known.
        stored_moments: whether scores are computed from statistics stored with the reference, as published values are.
        dimension: number of features of the extractor.
    """

    images: ImageSet
    pixels: Pixels
    reference: ImageSet | None = None
    reference_pixels: Pixels | None = None
    stored_moments: bool = False
    dimension: int = 2048


def lint(subject: Subject) -> list[Finding]:
    """The remarks of both sides, then all findings of all checks."""
    sides = [subject.images] if subject.reference is None else [subject.images, subject.reference]
    remarks = [Finding(remark.about, "warning", remark.text) for side in sides for remark in side.remarks]
    return remarks + [Finding(name, "warning", message) for name, check in CHECKS.items() for message in check(subject)]


def as_rows(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """As rows of a record: ``check``, ``severity``, ``message``."""
    return [dataclasses.asdict(finding) for finding in findings]


def check_order(subject: Subject) -> Iterator[str]:
    """Images sorted by class."""
    labels_N = subject.images.labels_N
    if labels_N is not None:
        yield from _order(labels_N, "class")


def check_predicted_order(logits_NK: NDArray[np.float32]) -> list[Finding]:
    """The order of a set without labels, by the classes that the extractor predicts."""
    return [Finding("order", "warning", message) for message in _order(logits_NK.argmax(axis=1), "predicted class")]


def check_extractor_fit(extractor: FeatureExtractor, stored_moments: bool) -> list[Finding]:
    """Weights that are not the published ones, and stored statistics of another extractor."""
    found = []
    if extractor.provenance.get("weights_published") is False:
        found.append(
            f"the weights of {extractor.name} are not the published ones: no score of its features is comparable with "
            "published values"
        )
    if stored_moments and extractor.name != INCEPTION:
        found.append(
            f"the statistics stored with the reference are of {INCEPTION} features and are not used: FD[{extractor.name}] "
            "is computed from the images of the file"
        )
    return [Finding("extractor", "warning", message) for message in found]


def check_training_networks(config: RunConfig, extractor: str) -> list[Finding]:
    """An extractor whose network, or one of its family, is part of the run's training losses."""
    losses, model = config.tokenizer.losses, config.model
    settings = {
        "tokenizer.losses.perceptual": (losses.perceptual, losses.perceptual_weight),
        "model.alignment": (getattr(model, "alignment", "none"), getattr(model, "alignment_weight", 0)),
    }
    found = []
    for key, (value, weight) in settings.items():
        network = "dinov2" if (key, value) == ("model.alignment", "auto") else value
        if weight > 0 and network.partition("-")[0] == extractor.partition("-")[0]:
            found.append(
                f"`{key}={value}` trains with features of {network}: scores of {extractor} features flatter this run against "
                "runs trained without them; score it with another extractor as well"
            )
    return [Finding("extractor", "warning", message) for message in found]


def check_classes_fit(
    images: ImageSet, reference: ImageSet, model_classes: int | None = None, *, force: bool = False
) -> list[Finding]:
    """Refuse a reference with other classes than the samples', if both are known.

    Args:
        images: the samples.
        reference: what they will be compared with.
        model_classes: number of classes of the model that made them; 0 for a model without classes, which fits any.
        force: report it only.

    Raises:
        InputError: the numbers of classes differ, and ``force`` is not set.
    """
    known, model_classes = len(reference.classes), model_classes or None
    highest = -1 if images.labels_N is None else int(images.labels_N.max())
    if not known or (model_classes in (None, known) and highest < known):
        return []
    given = (
        f"the model has {model_classes} classes" if model_classes not in (None, known) else f"a sample is of class {highest}"
    )
    message = f"{given}, the reference {reference.name} has {known}: scores would compare different things"
    if not force:
        raise InputError(f"{message}; use a reference of the model's own data, or score anyway with `force=True`")
    return [Finding("classes", "forced", message)]


def check_balance(subject: Subject) -> Iterator[str]:
    """Classes more or less frequent than in the reference, or than each other if the reference has no labels."""
    labels_N = subject.images.labels_N
    if labels_N is None:
        return
    other_N = None if subject.reference is None else subject.reference.labels_N
    classes = int(max(labels_N.max(), -1 if other_N is None else other_N.max())) + 1
    if classes == 1:
        return
    if classes > _MOST_CLASSES:  # numbers of some other kind: only those that occur are counted
        seen = np.unique(labels_N if other_N is None else np.concatenate([labels_N, other_N]))
        labels_N, other_N = np.searchsorted(seen, labels_N), None if other_N is None else np.searchsorted(seen, other_N)
        classes = len(seen)
    counts_K = np.bincount(labels_N, minlength=classes).astype(np.float64)
    other_K = np.full(classes, 1e12) if other_N is None else np.bincount(other_N, minlength=classes).astype(np.float64)
    chance, moved = _other_shares(counts_K, other_K)
    if chance < _SURE and moved > 0.05:
        absent = int(((counts_K == 0) & (other_K > 0)).sum())
        than = "each other" if other_N is None else "the reference"
        yield (
            f"class frequencies differ from {than} ({counts_K.min():.0f} to {counts_K.max():.0f} images per class, {absent} "
            f"absent, {moved:.0%} of the images would have to change): FID and sFID would be higher, recall and coverage "
            "lower than with equal shares, whatever the images look like"
        )


def check_number(subject: Subject) -> Iterator[str]:
    """Fewer images than features, or another number than published values use."""
    n = subject.images.count
    if n < subject.dimension:
        yield (
            f"{n} images are fewer than the {subject.dimension} features: FID and sFID are biased upwards, by an amount that "
            "differs between models; compare them at equal n only"
        )
    if subject.stored_moments and n != PUBLISHED_N:
        direction = "higher" if n < PUBLISHED_N else "lower"
        yield (
            f"{n} images against a reference with stored statistics, for which published values use {PUBLISHED_N}: "
            f"FID and sFID would be {direction} than published ones for the same model"
        )


def check_range(subject: Subject) -> Iterator[str]:
    """Values in the wrong part of 0 to 255."""
    used = np.flatnonzero(subject.pixels.histogram_256)
    if len(used) > 1 and set(used.tolist()) <= {0, 1, 255} and 1 in used:
        yield (
            f"all values are {', '.join(map(str, used))}: floats in [0, 1] or [-1, 1] were cast to uint8 without scaling; "
            "scores would be those of black images"
        )
        return
    low, high = subject.pixels.spread
    known = None if subject.reference_pixels is None else subject.reference_pixels.spread
    for wrong, word, cause in (
        (high < 128 and (known is None or known[1] >= 128), "dark", f"hardly any value above {high}"),
        (low > 127 and (known is None or known[0] <= 127), "bright", f"hardly any value below {low}"),
    ):
        if wrong:
            yield (
                f"all images are {word} ({cause}), as if scaled to half the range: FID, KID and sFID would be higher, "
                "precision and recall lower"
            )
            return
    if known is not None and high - low < 0.6 * (known[1] - known[0]):
        yield (
            f"values range from {low} to {high}, the reference's from {known[0]} to {known[1]}: the lower contrast would "
            "raise FID and KID and lower precision and recall"
        )
    if subject.reference_pixels is not None:
        share, usual = _ends(subject.pixels), _ends(subject.reference_pixels)
        if share > usual + 0.1 and share > 2 * usual:
            yield (
                f"{share:.0%} of the values are 0 or 255, {usual:.0%} of the reference's: clipped or scaled beyond the range, "
                "which would raise FID and KID"
            )


def check_rounding(subject: Subject) -> Iterator[str]:
    """Values that stop at 254, where rounding would give half as many 255 as 254.

    Visible only if the model does not overshoot: clamped values fill 255 in either case. Counts that fall towards 254 may have
    reached 0 at 255; even or rising ones cannot have.
    """
    top = subject.pixels.histogram_256[251:256]
    rising = bool((np.diff(top[:4].astype(np.int64)) >= 0).all())
    if top[4] == 0 and top[:4].min() >= 100 and (rising or top[:4].max() < 2 * top[:4].min()):
        yield (
            f"no value is 255 and {top[3]} are 254, as after truncation instead of rounding: all images are half a level "
            "darker and FID slightly higher (and not comparable with rounded samples)"
        )


def check_blocks(subject: Subject) -> Iterator[str]:
    """Files in a lossy format on either side, and traces of JPEG in the samples: coefficients of the cosine transform clustered
    at zero in its grid of blocks and in no other grid."""
    if subject.reference is not None and subject.reference.lossy:
        yield (
            f"{subject.reference.lossy} of {subject.reference.count} files of the reference are in a lossy format, such as "
            "JPEG: FID and KID are higher for samples without its artefacts"
        )
    if subject.images.lossy:
        yield (
            f"{subject.images.lossy} of {subject.images.count} files are in a lossy format, such as JPEG: its artefacts raise "
            "FID and KID against references without them, and change with the quality setting"
        )
        return
    zeros_MG = subject.pixels.zeros_MG
    zeros_MG = zeros_MG[np.isfinite(zeros_MG).all(axis=1)].astype(np.float64)
    if len(zeros_MG) < 8:
        return
    beyond_M = zeros_MG[:, 0] - zeros_MG[:, 1 + int(zeros_MG.mean(axis=0)[1:].argmax())]
    error = beyond_M.std(ddof=1) / len(beyond_M) ** 0.5
    if beyond_M.mean() > 0.04 and beyond_M.mean() > _FAR * error:
        yield (
            f"blocks of {BLOCK} x {BLOCK} pixels show traces of JPEG (its grid has {beyond_M.mean():.0%} more vanishing "
            "coefficients than any other): FID and KID would be higher than those of the images before they were compressed"
        )


def check_one_colour(subject: Subject) -> Iterator[str]:
    """Images of a single colour on either side."""
    if subject.pixels.one_colour:
        yield (
            f"{subject.pixels.one_colour} of {subject.images.count} images are of a single colour, as failed samples are: "
            "FID would be higher, precision lower"
        )
    if subject.reference is not None and subject.reference_pixels is not None and subject.reference_pixels.one_colour:
        yield (
            f"{subject.reference_pixels.one_colour} of {subject.reference.count} images of the reference are of a single "
            "colour, as misread images are: FID would be higher, recall lower"
        )


def check_duplicates(subject: Subject) -> Iterator[str]:
    """Exact copies within the samples."""
    copies = len(subject.pixels.hashes_N) - len(np.unique(subject.pixels.hashes_N))
    if copies:
        yield (
            f"{copies} of {subject.images.count} images are exact copies of others (a seed used twice?): recall and coverage "
            "would be lower, all intervals too narrow"
        )


def check_copies(subject: Subject) -> Iterator[str]:
    """Images that are also in the reference."""
    if subject.reference_pixels is None:
        return
    copies = int(np.isin(subject.pixels.hashes_N, subject.reference_pixels.hashes_N).sum())
    if copies:
        yield (
            f"{copies} of {subject.images.count} images are also in the reference: FID and KID would be lower, "
            "precision, recall and coverage higher than those of new images"
        )


CHECKS = {
    "order": check_order,
    "balance": check_balance,
    "number": check_number,
    "range": check_range,
    "rounding": check_rounding,
    "jpeg": check_blocks,
    "one colour": check_one_colour,
    "duplicates": check_duplicates,
    "copies": check_copies,
}


def _order(labels_N: NDArray[np.int64], what: str) -> Iterator[str]:
    """Whether neighbours share their class more often than in random order."""
    n = len(labels_N)
    shares_K = np.unique_counts(labels_N).counts / n
    if n < 10 or len(shares_K) < 2:
        return
    expected = float((shares_K**2).sum())
    found = float((labels_N[1:] == labels_N[:-1]).mean())
    # Neighbours are nearly independent in random order; the floor keeps one pair of a small set from raising an alarm.
    error = max((expected * (1 - expected) / (n - 1)) ** 0.5, 1 / n)
    if found - expected > max(_FAR * error, 0.05):
        splits = np.array_split(labels_N, 10) if n <= SPLIT_SIZE else np.split(labels_N, range(SPLIT_SIZE, n, SPLIT_SIZE))
        ordered = float(np.mean([_most_inception_score(split) for split in splits]))
        how = "10 splits" if n <= SPLIT_SIZE else f"splits of {SPLIT_SIZE}"
        shuffled = _most_inception_score(labels_N)
        yield (
            f"{found:.0%} of neighbours share their {what}, {expected:.0%} would in random order: IS in the order given would "
            f"be at most about {ordered:.3g} in {how}, against {shuffled:.3g} shuffled; FID, KID, precision and recall do not "
            "depend on the order"
        )


def _most_inception_score(labels_N: NDArray[np.int64]) -> float:
    """exp of the entropy of the classes: the score if every class is recognised with certainty."""
    shares = np.unique_counts(labels_N).counts / len(labels_N)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _other_shares(counts_K: NDArray[np.float64], other_K: NDArray[np.float64]) -> tuple[float, float]:
    """p-value of equal shares in two sets (chi-square), and half the sum of the absolute differences of the shares.

    Classes too rare for the test are pooled.
    """
    table = np.stack([counts_K, other_K])
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    rare = expected.min(axis=0) < 5
    if rare.any():
        table, expected = (
            np.concatenate([t[:, ~rare], t[:, rare].sum(axis=1, keepdims=True)], axis=1) for t in (table, expected)
        )
    kept = expected.min(axis=0) > 0
    table, expected = table[:, kept], expected[:, kept]
    if table.shape[1] < 2:
        return 1.0, 0.0
    statistic = float(((table - expected) ** 2 / expected).sum())
    shares = table / table.sum(axis=1, keepdims=True)
    return float(chi2.sf(statistic, table.shape[1] - 1)), float(np.abs(shares[0] - shares[1]).sum() / 2)


def _ends(pixels: Pixels) -> float:
    """Share of values at 0 and 255."""
    return float(pixels.histogram_256[[0, 255]].sum() / pixels.histogram_256.sum())
