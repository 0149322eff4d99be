"""Scoring of one set of images: extractors, checks, features by all processes, scores by the first."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from nvgbench.config.schema import DataConfig
from nvgbench.data.catalog import is_source
from nvgbench.data.image_set import ImageSet, from_dataset
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError
from nvgbench.evaluation.lint.checks import Finding, as_rows, check_extractor_fit, check_predicted_order
from nvgbench.evaluation.lint.inspection import inspect
from nvgbench.evaluation.options import EvaluationOptions
from nvgbench.evaluation.ratio import ratio_scores, real_images
from nvgbench.evaluation.reference import Reference
from nvgbench.evaluation.rules.adm import short_split
from nvgbench.evaluation.rules.catalog import open_rules
from nvgbench.evaluation.scores import Scores, check_sets, check_statistics, evaluate_samples
from nvgbench.evaluation.shown import image_table
from nvgbench.evaluation.statistics import check_moments, feature_count
from nvgbench.extractors.cache import FeatureCache
from nvgbench.extractors.registry import ExtractorRequest, open_extractor
from nvgbench.extractors.sets import ExtractorSet, open_set
from nvgbench.metrics.frechet_extrapolated import fewest_images
from nvgbench.metrics.registry import select_metrics
from nvgbench.progress import Report, quiet
from nvgbench.results.scores import INCEPTION
from nvgbench.types import Share

T = TypeVar("T")


class Scorer:
    """Scores with one extractor or a set of them, one protocol and one feature cache.

    Args:
        root: folder of the runs; features are kept in its ``_features``, classifiers in its ``_extractors``.
        options: see `EvaluationOptions`.
        device: where models and extractors run.
        report: opens a progress display.
        share: this process's share of sampling and extraction; all of it if None. Only the first process scores, draws
            pictures and records; the others get None instead of a record.
        warn: called with each warning, before the scores.
    """

    def __init__(
        self,
        root: Path,
        options: EvaluationOptions,
        device: torch.device | str = "cpu",
        report: Report = quiet,
        share: Share | None = None,
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.share = share or Share()
        self.warn = warn
        self.root = root
        self.options = options
        self.device = device
        self.report = report
        self.rules = open_rules(options.protocol, device)
        self.cache = FeatureCache(root / "_features", batch_size=options.batch_size)
        self.scoring = options.score_settings(device)

    def score(
        self,
        images: ImageSet,
        reference: Reference,
        extractors: ExtractorSet,
        data: DataConfig,
        findings: list[Finding] | None = None,
    ) -> list[Scores]:
        """Features by all processes, scores by the first: by each extractor, then FDr of a set.

        Args:
            findings: problems found with the samples so far; None for anchors, which are neither linted nor searched for
                copies of training images.
        """
        check_sets(images, reference.images, self.scoring)
        training = None
        if self.options.nearest_training and findings is not None:
            if not is_source(data.source):
                raise InputError(
                    f"`nearest_training=True` needs the training images of a data source, and {data.source} is none"
                )
            training = from_dataset(open_dataset(data.source, image_size=data.image_size, split="train", seed=data.seed))
        if findings is not None:
            findings += self._lint(images, reference, extractors)
            findings += self._check_moments(reference, extractors)
        # An anchor of fewer images than were asked for would get a ratio of its own: distances of few images are all large.
        whole = findings is not None or images.count >= self.options.n
        real = self._real_images(images, data, extractors) if whole else None
        images = self._fill(images, extractors, "features of the samples")
        if not reference.statistics_only:
            filled = self._fill(reference.images, extractors, "features of the reference")
            reference = dataclasses.replace(reference, images=filled)
        if training is not None:
            training = self._fill(training, extractors, "features of the training images")
        if real is not None:
            real = self._fill(real, extractors, "features of real images")
        if not self.share.is_first:
            return []
        if findings is not None and images.labels_N is None:
            logits_NK = self.cache.extract(images.chunks(), extractors.members[0]).logits_NK
            seen = check_predicted_order(logits_NK) if logits_NK.shape[1] else []
            self.report_findings(seen)
            findings += seen
        scores = []
        for extractor in extractors.members:
            found = evaluate_samples(
                images,
                reference,
                extractor,
                self.scoring,
                cache=self.cache,
                training=training,
                rules=self.rules,
                report=self.report,
            )
            if findings is not None:
                tables = found.tables | image_table(images, reference, extractor, self.cache)
                found = dataclasses.replace(found, tables=tables, provenance={**found.provenance, "lint": as_rows(findings)})
            scores.append(found)
        if real is None:
            return scores
        ratio = ratio_scores(extractors, scores, images, reference, real, self.scoring, cache=self.cache, report=self.report)
        return [*scores, ratio]

    def _real_images(self, images: ImageSet, data: DataConfig, extractors: ExtractorSet) -> ImageSet | None:
        """As many real images as samples, for FDr; None for a single extractor, without FID, and if there are none."""
        options = self.options
        if not extractors.name or not any(metric.scores[0].name == "FID" for metric in select_metrics(options.metrics)):
            return None
        try:
            return real_images(
                data, images.count, source=options.real, seed=options.seed, resize=options.resize, crop=options.crop
            )
        except InputError as error:
            if options.real is not None:
                raise
            if self.share.is_first:
                self.warn(f"FDr is left out: {error}")
            return None

    def _check_moments(self, reference: Reference, extractors: ExtractorSet) -> list[Finding]:
        """Findings about moments stored with images that are not theirs."""
        found: list[Finding] = []
        for extractor in extractors.members:
            moments, _ = reference.used_moments(self.options.protocol, extractor.name)
            if moments is not None and not reference.statistics_only:
                check = functools.partial(check_moments, reference.images, moments, extractor, cache=self.cache)
                pool = None if self.rules is None else self.rules.pool
                found += self.first_alone(functools.partial(check, pool=pool, force=self.options.force))
        return found

    def _lint(self, images: ImageSet, reference: Reference, extractors: ExtractorSet) -> list[Finding]:
        """Problems of the samples, reported by the first process."""
        if not self.share.is_first:
            return []
        dimension = max(feature_count(reference, extractor, self.rules) for extractor in extractors.members)
        protocol = self.options.protocol
        used = any(any(reference.used_moments(protocol, extractor.name)) for extractor in extractors.members)
        seen = None if reference.statistics_only else reference
        findings = inspect(images, seen, dimension=dimension, stored_moments=used, report=self.report)
        if protocol == "adm" and (shorter := short_split(images.count)):
            findings.append(Finding("number", "warning", shorter))
        # With another extractor than Inception they cannot be used, whatever the rules say.
        for extractor in extractors.members:
            findings += check_extractor_fit(extractor, any(reference.used_moments(protocol, INCEPTION)))
        self.report_findings(findings)
        return findings

    def check_statistics(self, reference: Reference) -> None:
        for name in self.options.extractor_names:
            check_statistics(reference, self.scoring, name)

    def check_extrapolation(self, n: int, reference: Reference, extractors: ExtractorSet) -> None:
        """Refuse FID∞ with too few images before any are sampled or read.

        Raises:
            InputError: says how many are needed.
        """
        for extractor in extractors.members if self.options.fid_infinity else ():
            fewest = fewest_images(feature_count(reference, extractor, self.rules))
            if n < fewest:
                raise InputError(
                    f"`fid_infinity=True` with {n} images: the extractor {extractor.name} needs at least {fewest}; "
                    "use more, or leave it out"
                )

    def report_findings(self, findings: list[Finding]) -> None:
        for finding in findings:
            self.warn(str(finding))

    def open_extractors(self, data: DataConfig) -> ExtractorSet:
        options, rules = self.options, self.rules
        request = ExtractorRequest(
            device=self.device,
            weights=options.extractor_weights,
            data=data if is_source(data.source) else None,
            folder=self.root / "_extractors",
            report=self.report,
        )
        if options.extractors is None:
            single = self.first_alone(
                lambda: open_extractor(options.extractor, request) if rules is None else rules.extractor(request)
            )
            return ExtractorSet("", (single,))
        choice = options.extractors
        found = self.first_alone(lambda: open_set(choice, request))
        if found.missing and self.share.is_first:
            self.warn(f"extractors {choice}: {', '.join(found.missing)} not available; the records say why")
        return found

    def first_alone(self, make: Callable[[], T]) -> T:
        """The result of ``make``; the first process calls it before the others, so that downloads and trainings happen once."""
        made = make() if self.share.is_first else None
        self.share.wait()
        return make() if made is None else made

    def _fill(self, images: ImageSet, extractors: ExtractorSet, what: str) -> ImageSet:
        """The set with the cache keys of its chunks, whose features every process helps to extract."""
        with self.report(what) as update:
            keys = self.cache.fill(
                images.chunks(lazy=self.share.count > 1),
                extractors.members,
                self.share,
                lambda done: update(done, images.count),
            )
        return dataclasses.replace(images, keys=dict(enumerate(keys)))
