"""One set of images scored under every variant: each change of pixels is one pass through the extractor, kept in the cache.

With more images than asked for, variants are computed from an evenly spread part of both sets, and the change that they make
there is added to the score of all images. Shape letters: N samples, M reference images, D features.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nvgbench.data.image_set import ImageSet
from nvgbench.errors import InputError
from nvgbench.evaluation.doctor.arithmetic import EXACT, OTHERS, Arithmetic, Gaussian, rough_distance
from nvgbench.evaluation.doctor.clues import Clue, find_clues
from nvgbench.evaluation.doctor.combinations import Axis, nearest_combinations
from nvgbench.evaluation.doctor.diagnosis import Diagnosis, Row
from nvgbench.evaluation.doctor.ranking import OTHER_REFERENCE, rank
from nvgbench.evaluation.doctor.variants import Side, Variant, changed, some_of, spread, variants
from nvgbench.evaluation.lint.checks import Subject
from nvgbench.evaluation.lint.pixels import set_statistics
from nvgbench.evaluation.reference import Reference
from nvgbench.evaluation.rules.catalog import open_rules
from nvgbench.evaluation.scores import extract
from nvgbench.extractors.cache import FeatureCache
from nvgbench.extractors.registry import ExtractorRequest
from nvgbench.interfaces import FeatureExtractor
from nvgbench.metrics.arrays import Floats
from nvgbench.metrics.frechet import (
    distance_to_factor,
    factor_of_covariance,
    frechet_contributions,
    frechet_distance,
    gaussian_of,
    small_sample_note,
)
from nvgbench.metrics.inception_score import SPLIT_SIZE, fidelity_order, score_in_order
from nvgbench.metrics.moments import Moments
from nvgbench.metrics.uncertainty import Contributions, difference_error
from nvgbench.progress import Report, quiet
from nvgbench.results.protocols import OWN, PROTOCOLS
from nvgbench.results.scores import INCEPTION, named_score
from nvgbench.types import Features

FEWEST = 20
"""Smallest number of images per side."""
PUBLISHED_N = 50_000
"""Samples behind most published values."""
Target = tuple[Floats, Floats]
"""Mean ``[D]`` of a reference and a factor ``[D, r]`` of its covariance."""


@dataclass(frozen=True, kw_only=True)
class ExaminationOptions:
    """What the doctor is asked.

    Attributes:
        score: ``FID`` (with any extractor) or ``IS``.
        most: number of images per side that variants are computed from.
        protocols: ids of protocols of other libraries to try, which needs Inception's weights.
        request: how their networks are opened.
    """

    score: str = "FID"
    most: int = 2000
    protocols: Sequence[str] = ()
    request: ExtractorRequest = dataclasses.field(default_factory=ExtractorRequest)


class Examination:
    """See the head of this file.

    Args:
        images: the samples.
        reference: what they are compared with.
        extractor: images to features.
        options: see `ExaminationOptions`.
        cache: where features are kept.
        others: other references that the expected score may have been computed with, by name.
        resized: ``(name, side, images)`` of a side's files read again with other resizing.
        report: opens a progress display.

    Raises:
        InputError: fewer than `FEWEST` images on a side, unequal sizes, IS without logits or another score.
    """

    def __init__(
        self,
        images: ImageSet,
        reference: Reference,
        extractor: FeatureExtractor,
        options: ExaminationOptions,
        *,
        cache: FeatureCache,
        others: Mapping[str, Reference] | None = None,
        resized: Sequence[tuple[str, Side, ImageSet]] = (),
        report: Report = quiet,
    ) -> None:
        if options.score not in ("FID", "IS"):
            raise InputError(f"`score={options.score!r}`: expected `score='FID'` (with any extractor) or `score='IS'`")
        for name, count in ((images.name, images.count), (reference.images.name, reference.images.count)):
            if count < FEWEST and not (count == 0 and reference.statistics_only):
                raise InputError(f"{name}: {count} images are too few for a diagnosis; use at least {FEWEST}")
        if options.most < FEWEST:
            raise InputError(f"`n={options.most}` is too few for a diagnosis; use at least {FEWEST}")
        self.images, self.reference, self.extractor, self.options = images, reference, extractor, options
        self.cache, self.others, self.resized, self.report = cache, others or {}, resized, report
        self.score = named_score(options.score)
        self.name = self.score.called(extractor.name)
        self.sample = some_of(images, options.most)
        self.real = None if reference.statistics_only else some_of(reference.images, options.most)
        self.pixels = set_statistics(self.images)
        self.real_pixels = None if self.real is None else set_statistics(reference.images)
        self.notes: list[str] = []
        self._passes: dict[tuple[str, str], Features] = {}
        if options.score == "IS" and not self._features("samples").logits_NK.shape[1]:
            raise InputError(f"the extractor {extractor.name} has no logits, so no IS; use `score='FID'`")

    def diagnose(self, expected: float | None = None) -> Diagnosis:
        """Score every variant, gather the clues, and rank the causes.

        Args:
            expected: the score that it should be, if known.
        """
        value, stderr = self.base.value, self.base.stderr
        causes = rank(
            self.rows,
            self.clues,
            score=self.name,
            value=value,
            stderr=stderr,
            expected=expected,
            higher_is_better=bool(self.score.higher_is_better),
        )
        return Diagnosis(
            score=self.name,
            value=value,
            stderr=stderr,
            n=self.images.count,
            n_reference=self.reference.count if self.real is None else self.reference.images.count,
            samples=self.images.name,
            reference=self.reference.images.name,
            expected=expected,
            rows=self.rows,
            causes=causes,
            nearest=() if expected is None else nearest_combinations(self._axes(), value, expected, self._together),
            notes=tuple(self._limits(expected)),
        )

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The score under every variant, those that move it most first; rows of other scores come last."""
        rows = [*self._pixel_rows(), *self._copies_rows(), *self._order_rows()]
        if self.options.score == "FID":
            rows += [*self._arithmetic_rows(), *self._number_rows(), *self._reference_rows(), *self._protocol_rows()]
        return tuple(sorted(rows, key=lambda row: (row.score != self.name, -abs(row.change))))

    @cached_property
    def clues(self) -> list[Clue]:
        """What the images show."""
        subject = Subject(
            images=self.images,
            pixels=self.pixels,
            reference=self.reference.images if self.real is not None else None,
            reference_pixels=self.real_pixels,
            stored_moments=self._stored is not None,
            dimension=self._features("samples").features_ND.shape[1],
        )
        real = None if self.real is None else self._features("reference")
        return find_clues(subject, self._features("samples"), real, self.reference)

    @cached_property
    def base(self) -> Contributions:
        """The score of all images without any change, as an evaluation computes it."""
        whole = extract(self.images, self.extractor, self.cache, self.report, "features of the samples")
        stored = self._stored
        if self.options.score == "FID" and stored is not None:
            own = Moments.of(whole.features_ND)
            parts = frechet_contributions(whole.features_ND, stored[0], factor_of_covariance(stored[1]))
            return Contributions(value=frechet_distance(own.mean, own.covariance, *stored), parts=parts)
        if self.real is None or self.real.count == self.reference.images.count:
            return self._measured(whole, self.target) if self.images.count > self.sample.count else self.start
        real = extract(self.reference.images, self.extractor, self.cache, self.report, "features of the reference")
        return self._measured(whole, gaussian_of(real.features_ND))

    @cached_property
    def start(self) -> Contributions:
        """The score of the examined images, recomputed from images."""
        return self._measured(self._features("samples"), self.target)

    @cached_property
    def target(self) -> Target:
        """The Gaussian of the examined reference images, or the stored one without images."""
        if self.real is None:
            assert self._stored is not None
            return self._stored[0], factor_of_covariance(self._stored[1])
        return gaussian_of(self._features("reference").features_ND)

    @property
    def _stored(self) -> Gaussian | None:
        """The stored moments that an evaluation uses."""
        moments, _ = self.reference.used_moments(OWN, self.extractor.name)
        return None if moments is None else (moments.mean_D, moments.covariance_DD)

    def _measured(self, features: Features, target: Target) -> Contributions:
        if self.options.score == "IS":
            logits_NK = features.logits_NK[fidelity_order(len(features))]
            return score_in_order(logits_NK, splits=min(10, len(features)))
        x = features.features_ND
        return Contributions(value=distance_to_factor(x, *target), parts=frechet_contributions(x, *target))

    def _features(self, side: str, variant: str = "") -> Features:
        """Features of a side as it is, or under a variant that `_pixel_rows` has passed."""
        if (side, variant) not in self._passes:
            images = self.sample if side == "samples" else self.real
            assert images is not None
            found = extract(images, self.extractor, self.cache, self.report, f"features of the {side}")
            self._passes[side, variant] = found
        return self._passes[side, variant]

    def _row(
        self, variant: str, of: str, cause: str, change: float, error: float | None = None, *, speaks: bool = False
    ) -> Row:
        value = self.base.value + change
        return Row(variant=variant, of=of, cause=cause, score=self.name, value=value, change=change, error=error, speaks=speaks)

    def _pixel_rows(self) -> Iterator[Row]:
        tried = []
        for variant in variants(self.pixels, self.real_pixels):
            images = self.sample if variant.side == "samples" else self.real
            assert images is not None  # without reference images they have no variants
            tried.append((variant, changed(images, variant.change)))
        for name, side, images in self.resized:
            tried.append((Variant(name=name, cause="resize", side=side), some_of(images, self.options.most)))
        for variant, images in tried:
            if variant.side == "reference" and self.options.score == "IS":
                continue
            what = f"{variant.name} ({variant.side})"
            found = extract(images, self.extractor, self.cache, self.report, what)
            self._passes[variant.side, variant.name] = found
            if variant.side == "samples":
                measured = self._measured(found, self.target)
            else:
                measured = self._measured(self._features("samples"), gaussian_of(found.features_ND))
            change = measured.value - self.start.value
            error = difference_error(self.start, measured, paired=True)
            yield self._row(variant.name, variant.side, variant.cause, change, error, speaks=variant.speaks)

    def _copies_rows(self) -> Iterator[Row]:
        """Without exact copies, and without images that are in the reference."""
        hashes_N = self.pixels.hashes_N[spread(self.images.count, self.sample.count)]
        kept = {"without exact copies": ("duplicates", np.unique(hashes_N, return_index=True)[1])}
        if self.real_pixels is not None:
            new = np.flatnonzero(~np.isin(hashes_N, self.real_pixels.hashes_N))
            kept["without images of the reference"] = ("copies of the reference", new)
        features = self._features("samples")
        for name, (cause, rows) in kept.items():
            if FEWEST <= len(rows) < len(hashes_N):
                part = Features(features.features_ND[rows], features.logits_NK[rows])
                yield self._row(name, "samples", cause, self._measured(part, self.target).value - self.start.value)

    def _order_rows(self) -> Iterator[Row]:
        """The Inception Score in the order given, which is how some evaluators split it."""
        logits_NK = self._features("samples").logits_NK
        if not logits_NK.shape[1]:
            return
        splits = min(10, len(logits_NK))
        shuffled = score_in_order(logits_NK[fidelity_order(len(logits_NK))], splits=splits).value
        values = {
            f"{splits} splits, shuffled": shuffled,
            f"{splits} splits in the order given": score_in_order(logits_NK, splits=splits).value,
            f"splits of {SPLIT_SIZE:,} in the order given": score_in_order(logits_NK).value,
        }
        for name, value in values.items():
            score = named_score("IS").called(self.extractor.name)
            yield Row(variant=name, of="order", cause="order", score=score, value=value, change=value - shuffled)

    def _arithmetic_rows(self) -> Iterator[Row]:
        x = self._features("samples").features_ND
        y = None if self.real is None else self._features("reference").features_ND
        stored = self._stored if self.real is None else None

        def distance(arithmetic: Arithmetic) -> float:
            if y is not None:
                return rough_distance(arithmetic.of(x), arithmetic.of(y))
            assert stored is not None
            return rough_distance(arithmetic.of(x), arithmetic.moments(stored, self.reference.count))

        exact = distance(EXACT)
        for arithmetic in OTHERS:
            yield self._row(arithmetic.name, "statistics", "precision of moments", distance(arithmetic) - exact)

    def _number_rows(self) -> Iterator[Row]:
        """FID(n) is about FID(∞) + b / n (Chong and Forsyth 2020); b comes from the two halves."""
        x, n = self._features("samples").features_ND, self.images.count
        halves = [distance_to_factor(part, *self.target) for part in (x[::2], x[1::2])]
        slope = (float(np.mean(halves)) - self.start.value) * len(x)
        for name, count in (
            ("half of the samples", n / 2),
            ("twice as many samples (extrapolated)", 2 * n),
            (f"{PUBLISHED_N:,} samples (extrapolated)", max(PUBLISHED_N, n)),
        ):
            if count != n:
                yield self._row(name, "number", "number of images", slope * (1 / count - 1 / n))

    def _reference_rows(self) -> Iterator[Row]:
        """Statistics recomputed from the images beside them, and other references."""
        x = self._features("samples").features_ND
        if self._stored is not None and self.real is not None:
            change = self.start.value - self.base.value
            yield self._row("recomputed from the images", "statistics", "stored statistics", change)
        for name, other in self.others.items():
            moments, _ = other.used_moments(OWN, self.extractor.name)
            if moments is not None:
                target = moments.mean_D, factor_of_covariance(moments.covariance_DD)
            else:
                images = some_of(other.images, self.options.most)
                found = extract(images, self.extractor, self.cache, self.report, f"features of {name}")
                target = gaussian_of(found.features_ND)
            measured = self._measured(Features(x, x[:, :0]), target)
            error = difference_error(self.start, measured, paired=True)
            change = measured.value - self.start.value
            yield self._row(name, "reference", OTHER_REFERENCE, change, error, speaks=True)

    def _protocol_rows(self) -> Iterator[Row]:
        if self.real is None:
            return
        for id in self.options.protocols:
            rules = open_rules(id, self.options.request.device)
            assert rules is not None
            try:
                network = rules.extractor(self.options.request)
            except InputError as error:
                self.notes.append(f"the protocol {id} was not tried: {error}")
                continue
            x, y = (
                rules.pool(extract(images, network, self.cache, self.report, f"{id}: {images.name}").features_ND)
                for images in (self.sample, self.real)
            )
            change = rules.frechet(x, y) - self.start.value
            yield self._row(PROTOCOLS[id].summary, "protocol", f"protocol {id}", change)

    def _axes(self) -> list[Axis]:
        """Rows that exclude each other: one change per side, and one of the arithmetic."""
        own = [row for row in self.rows if row.score == self.name]
        sides = (("samples",), ("reference",), ("statistics", "number"), ("protocol",))
        return [[row for row in own if row.of in side] for side in sides]

    def _together(self, rows: Sequence[Row]) -> float:
        """The score under several variants: changes of pixels exactly, those of the arithmetic added."""
        passed = {row.of: row for row in rows if (row.of, row.variant) in self._passes}
        change = sum(row.change for row in rows if row not in passed.values())
        if passed:
            x = self._features("samples", passed["samples"].variant if "samples" in passed else "")
            real = passed.get("reference")
            target = self.target if real is None else gaussian_of(self._features("reference", real.variant).features_ND)
            change += self._measured(x, target).value - self.start.value
        return self.base.value + change

    def _limits(self, expected: float | None) -> Iterator[str]:
        features = self._features("samples").features_ND
        if self.sample.count < self.images.count or (self.real and self.real.count < self.reference.images.count):
            yield f"variants were computed from {self.options.most} images per side, and their change added to the score of all"
        if self.options.score == "FID" and (caution := small_sample_note(*features.shape)):
            yield caution
        if self.extractor.name != INCEPTION:
            yield f"{self.extractor.name} features: not comparable with published FID, whose network is Inception"
        elif self.extractor.provenance.get("weights_published") is False:
            yield "the Inception weights are not the published ones"
        error = self.base.stderr
        if expected is not None and error is not None and abs(expected - self.base.value) < 2 * error:
            yield "the expected score is within two standard errors: other samples of the same model may give it"
        yield from self.notes
