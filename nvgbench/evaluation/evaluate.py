"""Evaluation of runs, third-party samples and anchors: sample, extract features, score, draw pictures, append a record."""

from __future__ import annotations

import dataclasses
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch

from nvgbench.config.load import changed_settings, config_hash, override_dataclass, to_dict
from nvgbench.config.schema import DataConfig, RunConfig
from nvgbench.data.catalog import is_source
from nvgbench.data.image_set import ImageSet, from_dataset, open_images
from nvgbench.data.source import open_dataset
from nvgbench.device import resolved_settings
from nvgbench.errors import InputError
from nvgbench.evaluation import anchors, recording
from nvgbench.evaluation.lint.checks import Finding, as_rows, check_classes_fit, check_extractor_fit, check_predicted_order
from nvgbench.evaluation.lint.inspection import inspect
from nvgbench.evaluation.options import EvaluationOptions
from nvgbench.evaluation.reconstructions import evaluate_reconstructions
from nvgbench.evaluation.reference import Reference, match_labels, open_reference, run_reference
from nvgbench.evaluation.rules.adm import short_split
from nvgbench.evaluation.rules.catalog import open_rules
from nvgbench.evaluation.run_data import check_reference, data_of
from nvgbench.evaluation.scores import Scores, check_counts, check_sets, check_statistics, evaluate_samples
from nvgbench.evaluation.shown import image_table, structure_grid
from nvgbench.evaluation.statistics import check_moments, feature_count
from nvgbench.evaluation.subjects import check_subject, read_origin, subject_name
from nvgbench.extractors.cache import FeatureCache
from nvgbench.extractors.registry import ExtractorRequest, open_extractor
from nvgbench.interfaces import FeatureExtractor, ImageGenerator
from nvgbench.metrics.frechet_extrapolated import fewest_images
from nvgbench.progress import Report, quiet
from nvgbench.results.grouping import over_sampling_seeds
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import INCEPTION
from nvgbench.results.store import ResultStore
from nvgbench.results.weights import unfinished
from nvgbench.runs.folder import RunFolder
from nvgbench.sampling.job import sample_job
from nvgbench.types import Share

T = TypeVar("T")


class Evaluator:
    """Evaluates with one extractor, one protocol and one feature cache.

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

    def run(self, run: RunFolder) -> RunRecord | None:
        """Sample from a trained run, score samples and reconstructions, and append the record to the run's.

        Raises:
            InputError: the run is not trained, unknown sampling settings, or an unusable reference or extractor.
            OSError: the run's folder cannot be written to.
        """
        config, options = run.config, self.options
        data, findings = self._first_alone(lambda: data_of(run, options.data, force=options.force))
        reference = self._reference(data)
        if not reference.statistics_only:
            check_counts(self.scoring, {f"reference {reference.images.name}": reference.images.count})
        check_statistics(reference, self.scoring, options.extractor)
        if options.reference is not None:
            findings += check_reference(run, data, reference.images, force=options.force)
        if self.share.is_first:
            self._report_findings(findings)
        generator = run.load_generator(self.device, weights=options.weights, step=options.step)
        if self.share.is_first and (early := unfinished(generator.spec.provenance)):
            self.warn(f"warning: {run.name} is {early}; its scores are marked, and no gate or claim is judged by them")
        extractor = self._extractor(data)
        self._check_extrapolation(options.n, reference, extractor)
        record_id = _new_id()
        samples = self._sample(generator, run.samples_path)
        images = open_images(samples)
        findings += check_classes_fit(images, reference.images, generator.spec.num_classes, force=options.force)
        if not generator.spec.num_classes and self.share.is_first:
            self.warn(f"{run.name} was trained without classes: conditional accuracy is left out")
        scores = self._score(images, reference, extractor, data, findings)
        if scores is None:
            return None
        again = self._reconstructions(run, data, extractor)
        folder = run.records_path.parent
        artifacts = recording.pictures(images, reference.images, folder, record_id)
        artifacts += recording.trace(generator, folder, record_id, seed=options.seed, settings=options.settings)
        artifacts += structure_grid(generator, images, folder, record_id, reference.images.classes, options)
        record = RunRecord(
            id=record_id,
            kind="eval",
            subject=run.name,
            family=config.family,
            preset=config.name,
            metrics=scores.metrics + again.metrics,
            tables=scores.tables | again.tables,
            artifacts=tuple(artifacts),
            provenance=recording.provenance(
                options.protocol,
                self.device,
                generator.spec.provenance.get("config_hash", config_hash(config)),
                **self._drawing(config),
                n=images.count,
                model=dict(generator.spec.provenance),
                replicate=run.replicate,
                changed=changed_settings(config),
                **_joined(scores.provenance, again.provenance),
            ),
        )
        ResultStore(run.records_path).append(record)
        if not options.keep_samples:
            shutil.rmtree(samples.parent, ignore_errors=True)
        return record

    def _reconstructions(self, run: RunFolder, data: DataConfig, extractor: FeatureExtractor) -> Scores:
        """Scores of the tokenizer; none if only some scores of generated images are wanted."""
        if self.options.metrics is not None:
            return Scores(metrics=())
        return evaluate_reconstructions(
            run.load_tokenizer(self.device),  # type: ignore[arg-type]  # a module with the protocol's methods
            run_reference(data).images,
            extractor,
            self.scoring,
            cache=self.cache,
            rules=self.rules,
            device=self.device,
            batch_size=self.options.batch_size,
            report=self.report,
        )

    def over_seeds(self, run: RunFolder, seeds: Sequence[int]) -> RunRecord | None:
        """Evaluate a run with each sampling seed, then append a record of the mean scores with intervals over the seeds.

        Returns:
            That record; None in all processes but the first.
        """
        records = []
        for seed in seeds:
            options = dataclasses.replace(self.options, seed=seed)
            single = Evaluator(self.root, options, self.device, self.report, self.share, self.warn)
            records.append(single.run(run))
        found = [record for record in records if record is not None]
        if not found:
            return None
        mean = over_sampling_seeds(found)
        ResultStore(run.records_path).append(mean)
        return mean

    def files(self, samples: Path, name: str | None = None) -> RunRecord | None:
        """Score third-party samples against ``options.reference``; the record goes to ``_external``.

        Args:
            samples: what `nvgbench.data.image_set.open_images` takes.
            name: of the samples in tables; that of the file or folder if None.

        Raises:
            InputError: no reference, or one that cannot be used; the classifier without a data source to train on; other
                samples or a run of that name.
        """
        options = self.options
        images = open_images(samples, key=options.key, resize=options.resize, crop=options.crop)
        source = options.reference
        if source is None:
            raise InputError("samples need a `reference=`: an .npz, a folder of images, or a data source such as cifar10")
        reference = self._open_reference(source, images.image_size)
        images, reference = match_labels(images, reference)
        folder = self.root / "_external"
        subject = name or subject_name(samples)
        replaced = check_subject(subject, images, ResultStore(folder).records(), self.root, chosen=name is not None)
        if replaced and self.share.is_first:
            self.warn(f"warning: name: {replaced}")
        data = DataConfig(source=source, image_size=images.image_size)
        check_sets(images, reference.images, self.scoring)  # before a classifier is trained
        check_statistics(reference, self.scoring, options.extractor)
        findings = check_classes_fit(images, reference.images, force=self.options.force)
        extractor = self._extractor(data)
        self._check_extrapolation(images.count, reference, extractor)
        scores = self._score(images, reference, extractor, data, findings)
        if scores is None:
            return None
        origin = read_origin(samples)
        about = {"model": origin["model"]} if origin else {}
        return self._store(subject, "external", scores, images, reference, folder, about=about)

    def anchors(self, configs: Iterable[RunConfig]) -> Iterator[RunRecord]:
        """Score anchors for the scores of these runs; the records go to ``_anchors``.

        Yields:
            Real training images and class means, once per data set; each preset untrained. Only the first process yields
            records.
        """
        folder = self.root / "_anchors" / "samples"
        data_sets = set()
        for config in configs:
            data = config.data
            if self.options.data is not None:
                data = dataclasses.replace(data, source=self.options.data)
            train = open_dataset(data.source, image_size=data.image_size, split="train", seed=data.seed)
            if (key := (data.source, data.image_size, data.eval_images, data.seed)) not in data_sets:
                data_sets.add(key)
                source = data.source.partition(":")[0]
                seed = self.options.seed
                real = anchors.real_images(train, self.options.n, seed)
                seeds = {"selection": seed, "scores": seed}
                yield from self._anchor(f"real images ({source})", real, data, drawing={"seeds": seeds})
                means = open_images(self._sample(anchors.class_means(train), folder, plain=True))
                yield from self._anchor(f"class means ({source})", means, data)
            untrained = anchors.untrained(config, 0 if config.data.classes == "none" else len(train.classes), self.device)
            images = open_images(self._sample(untrained, folder))
            drawing = self._drawing(config)
            yield from self._anchor(f"untrained {config.name}", images, data, preset=config.name, drawing=drawing)

    def _anchor(self, name: str, images: ImageSet, data: DataConfig, **about: Any) -> Iterator[RunRecord]:
        reference, extractor = self._reference(data), self._extractor(data)
        try:
            self._check_extrapolation(images.count, reference, extractor)
        except InputError as error:  # fewer images than requested; the runs are already scored
            if self.share.is_first:
                self.warn(f"{name}: {error}")
        scores = self._score(images, reference, extractor, data)
        if scores is not None:
            yield self._store(name, "anchor", scores, images, reference, self.root / "_anchors", **about)

    def _sample(self, generator: ImageGenerator, folder: Path, *, plain: bool = False) -> Path:
        options = self.options
        with self.report(f"sampling {generator.spec.name}") as update:
            return sample_job(
                generator,
                options.n,
                folder,
                batch_size=options.batch_size,
                seed=options.seed,
                settings={} if plain else options.settings,
                progress=update,
                share=self.share,
            )

    def _score(
        self,
        images: ImageSet,
        reference: Reference,
        extractor: FeatureExtractor,
        data: DataConfig,
        findings: list[Finding] | None = None,
    ) -> Scores | None:
        """Features by all processes, scores by the first.

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
            findings += self._lint(images, reference, extractor)
            moments, _ = reference.used_moments(self.options.protocol, extractor.name)
            if moments is not None and not reference.statistics_only:
                known = (reference.images, moments, extractor)
                pool = None if self.rules is None else self.rules.pool
                findings += self._first_alone(
                    lambda: check_moments(*known, pool=pool, cache=self.cache, force=self.options.force)
                )
        images = self._fill(images, extractor, "features of the samples")
        if not reference.statistics_only:
            filled = self._fill(reference.images, extractor, "features of the reference")
            reference = dataclasses.replace(reference, images=filled)
        if training is not None:
            training = self._fill(training, extractor, "features of the training images")
        if not self.share.is_first:
            return None
        if findings is not None and images.labels_N is None:
            logits_NK = self.cache.extract(images.chunks(), extractor).logits_NK
            seen = check_predicted_order(logits_NK) if logits_NK.shape[1] else []
            self._report_findings(seen)
            findings += seen
        scores = evaluate_samples(
            images,
            reference,
            extractor,
            self.scoring,
            cache=self.cache,
            training=training,
            rules=self.rules,
            report=self.report,
        )
        if findings is None:
            return scores
        tables = scores.tables | image_table(images, reference, extractor, self.cache)
        return dataclasses.replace(scores, tables=tables, provenance={**scores.provenance, "lint": as_rows(findings)})

    def _lint(self, images: ImageSet, reference: Reference, extractor: FeatureExtractor) -> list[Finding]:
        """Problems of the samples, reported by the first process."""
        if not self.share.is_first:
            return []
        dimension = feature_count(reference, extractor, self.rules)
        protocol = self.options.protocol
        used = any(reference.used_moments(protocol, extractor.name))
        seen = None if reference.statistics_only else reference
        findings = inspect(images, seen, dimension=dimension, stored_moments=used, report=self.report)
        if protocol == "adm" and (shorter := short_split(images.count)):
            findings.append(Finding("number", "warning", shorter))
        # With another extractor than Inception they cannot be used, whatever the rules say.
        findings += check_extractor_fit(extractor, any(reference.used_moments(protocol, INCEPTION)))
        self._report_findings(findings)
        return findings

    def _check_extrapolation(self, n: int, reference: Reference, extractor: FeatureExtractor) -> None:
        """Refuse FID∞ with too few images before any are sampled or read.

        Raises:
            InputError: says how many are needed.
        """
        if not self.options.fid_infinity:
            return
        fewest = fewest_images(feature_count(reference, extractor, self.rules))
        if n < fewest:
            raise InputError(
                f"`fid_infinity=True` with {n} images: the extractor {extractor.name} needs at least {fewest}; "
                "use more, or leave it out"
            )

    def _report_findings(self, findings: list[Finding]) -> None:
        for finding in findings:
            self.warn(str(finding))

    def _extractor(self, data: DataConfig) -> FeatureExtractor:
        request = ExtractorRequest(
            device=self.device,
            weights=self.options.extractor_weights,
            data=data if is_source(data.source) else None,
            folder=self.root / "_extractors",
            report=self.report,
        )
        rules = self.rules
        return self._first_alone(
            lambda: open_extractor(self.options.extractor, request) if rules is None else rules.extractor(request)
        )

    def _reference(self, data: DataConfig) -> Reference:
        given = self.options.reference
        return self._first_alone(lambda: run_reference(data)) if given is None else self._open_reference(given, data.image_size)

    def _open_reference(self, source: str, image_size: int) -> Reference:
        options = self.options
        return self._first_alone(lambda: open_reference(source, image_size, resize=options.resize, crop=options.crop))

    def _first_alone(self, make: Callable[[], T]) -> T:
        """The result of ``make``; the first process calls it before the others, so that downloads and trainings happen once."""
        made = make() if self.share.is_first else None
        self.share.wait()
        return make() if made is None else made

    def _fill(self, images: ImageSet, extractor: FeatureExtractor, what: str) -> ImageSet:
        """The set with the cache keys of its chunks, whose features every process helps to extract."""
        with self.report(what) as update:
            keys = self.cache.fill(
                images.chunks(lazy=self.share.count > 1), extractor, self.share, lambda done: update(done, images.count)
            )
        return dataclasses.replace(images, keys=dict(enumerate(keys)))

    def _drawing(self, config: RunConfig) -> dict[str, Any]:
        """For the record: seeds and sampling settings of a model of this configuration."""
        sampling = override_dataclass(config.sampling, self.options.settings, "sampling")
        settings = resolved_settings(to_dict(sampling), torch.device(self.device))
        return {"seeds": {"sampling": self.options.seed, "scores": self.options.seed}, "settings": settings}

    def _store(
        self,
        subject: str,
        family: str,
        scores: Scores,
        images: ImageSet,
        reference: Reference,
        folder: Path,
        *,
        preset: str = "",
        drawing: Mapping[str, Any] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> RunRecord:
        """Append the record of images that are not a run's.

        Args:
            about: more provenance.
            drawing: seeds and settings, see `_drawing`; None for third-party samples.
        """
        drawing = drawing or {"seeds": {"scores": self.options.seed}}
        record_id = _new_id()
        record = RunRecord(
            id=record_id,
            kind="eval",
            subject=subject,
            family=family,
            preset=preset,
            metrics=scores.metrics,
            tables=scores.tables,
            artifacts=tuple(recording.pictures(images, reference.images, folder, record_id)),
            provenance=recording.provenance(
                self.options.protocol, self.device, **drawing, n=images.count, **scores.provenance, **(about or {})
            ),
        )
        ResultStore(folder).append(record)
        return record


def _joined(scores: Mapping[str, Any], reconstructions: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance of both, with the scores that either lacks."""
    missing = {**scores.get("missing", {}), **reconstructions.get("missing", {})}
    return {**scores, **reconstructions, **({"missing": missing} if missing else {})}


def _new_id() -> str:
    return uuid.uuid4().hex[:12]
