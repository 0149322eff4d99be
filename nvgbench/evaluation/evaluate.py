"""Evaluation of runs, third-party samples and anchors: sample, extract features, score, draw pictures, append a record."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nvgbench.config.load import changed_settings, config_hash, override_dataclass, to_dict
from nvgbench.config.schema import DataConfig, RunConfig
from nvgbench.data.image_set import ImageSet, open_images
from nvgbench.data.source import open_dataset
from nvgbench.device import resolved_settings
from nvgbench.errors import InputError
from nvgbench.evaluation import anchors, recording
from nvgbench.evaluation.lint.checks import (
    check_classes_fit,
    check_training_networks,
)
from nvgbench.evaluation.reconstructions import evaluate_reconstructions
from nvgbench.evaluation.reference import Reference, match_labels, open_reference, run_reference
from nvgbench.evaluation.run_data import check_reference, data_of
from nvgbench.evaluation.scorer import Scorer
from nvgbench.evaluation.scores import Scores, check_counts, check_sets
from nvgbench.evaluation.shown import structure_grid
from nvgbench.evaluation.subjects import check_subject, read_origin, subject_name
from nvgbench.extractors.sets import ExtractorSet
from nvgbench.interfaces import ImageGenerator
from nvgbench.results.grouping import over_sampling_seeds
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import ResultStore
from nvgbench.results.weights import unfinished
from nvgbench.runs.folder import RunFolder
from nvgbench.sampling.job import sample_job

UNTRAINED_IMAGES = 256
"""Images of an untrained model. It is so far from the data that more of them would show nothing else."""


class Evaluator(Scorer):
    """Evaluates runs, third-party samples and anchors; see `nvgbench.evaluation.scorer.Scorer` for its arguments."""

    def run(self, run: RunFolder) -> RunRecord | None:
        """As `records_of`; the record, or that of the set if there are several extractors."""
        found = self.records_of(run)
        return found[-1] if found else None

    def records_of(self, run: RunFolder) -> list[RunRecord]:
        """Sample from a trained run, score samples and reconstructions, and append the records to the run's.

        Returns:
            A record per extractor, then FDr of a set; nothing in all processes but the first.

        Raises:
            InputError: the run is not trained, unknown sampling settings, or an unusable reference or extractor.
            OSError: the run's folder cannot be written to.
        """
        config, options = run.config, self.options
        data, findings = self.first_alone(lambda: data_of(run, options.data, force=options.force))
        reference = self._reference(data)
        if not reference.statistics_only:
            check_counts(self.scoring, {f"reference {reference.images.name}": reference.images.count})
        self.check_statistics(reference)
        if options.reference is not None:
            findings += check_reference(run, data, reference.images, force=options.force)
        for name in options.extractor_names:
            findings += check_training_networks(config, name)
        if self.share.is_first:
            self.report_findings(findings)
        generator = run.load_generator(self.device, weights=options.weights, step=options.step)
        if self.share.is_first and (early := unfinished(generator.spec.provenance)):
            self.warn(f"warning: {run.name} is {early}; its scores are marked, and no gate or claim is judged by them")
        extractors = self.open_extractors(data)
        self.check_extrapolation(options.n, reference, extractors)
        samples = self._sample(generator, run.samples_path)
        images = open_images(samples)
        findings += check_classes_fit(images, reference.images, generator.spec.num_classes, force=options.force)
        if not generator.spec.num_classes and self.share.is_first:
            self.warn(f"{run.name} was trained without classes: conditional accuracy is left out")
        scores = self.score(images, reference, extractors, data, findings)
        if not scores:
            return []
        again = self._reconstructions(run, data, extractors)
        folder, picture = run.records_path.parent, _new_id()
        artifacts = recording.pictures(images, reference.images, folder, picture)
        artifacts += recording.trace(generator, folder, picture, seed=options.seed, settings=options.settings)
        artifacts += structure_grid(generator, images, folder, picture, reference.images.classes, options)
        records: list[RunRecord] = []
        for one, other in itertools.zip_longest(scores, again, fillvalue=Scores(metrics=())):
            record = RunRecord(
                id=_new_id() if records else picture,
                kind="eval",
                subject=run.name,
                family=config.family,
                preset=config.name,
                metrics=one.metrics + other.metrics,
                tables=one.tables | other.tables,
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
                    **_joined(one.provenance, other.provenance),
                ),
            )
            ResultStore(run.records_path).append(record)
            records.append(record)
        if not options.keep_samples:
            shutil.rmtree(samples.parent, ignore_errors=True)
        return records

    def _reconstructions(self, run: RunFolder, data: DataConfig, extractors: ExtractorSet) -> list[Scores]:
        """Scores of the tokenizer by each extractor; none if only some scores of generated images are wanted."""
        if self.options.metrics is not None:
            return []
        return evaluate_reconstructions(
            run.load_tokenizer(self.device),  # type: ignore[arg-type]  # a module with the protocol's methods
            run_reference(data).images,
            extractors.members,
            cache=self.cache,
            rules=self.rules,
            device=self.device,
            batch_size=self.options.batch_size,
            report=self.report,
        )

    def over_seeds(self, run: RunFolder, seeds: Sequence[int]) -> RunRecord | None:
        """As `records_over_seeds`; the record, or that of the set if there are several extractors."""
        found = self.records_over_seeds(run, seeds)
        return found[-1] if found else None

    def records_over_seeds(self, run: RunFolder, seeds: Sequence[int]) -> list[RunRecord]:
        """Evaluate a run with each sampling seed, then append records of the mean scores with intervals over the seeds.

        Returns:
            Those records, one per extractor and FDr of a set; nothing in all processes but the first.
        """
        found = []
        for seed in seeds:
            options = dataclasses.replace(self.options, seed=seed)
            single = Evaluator(self.root, options, self.device, self.report, self.share, self.warn)
            found.append(single.records_of(run))
        means = [over_sampling_seeds(list(records)) for records in zip(*found, strict=True)]
        for mean in means:
            ResultStore(run.records_path).append(mean)
        return means

    def files(self, samples: Path, name: str | None = None) -> RunRecord | None:
        """As `records_of_files`; the record, or that of the set if there are several extractors."""
        found = self.records_of_files(samples, name)
        return found[-1] if found else None

    def records_of_files(self, samples: Path, name: str | None = None) -> list[RunRecord]:
        """Score third-party samples against ``options.reference``; the records go to ``_external``.

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
        self.check_statistics(reference)
        findings = check_classes_fit(images, reference.images, force=self.options.force)
        extractors = self.open_extractors(data)
        self.check_extrapolation(images.count, reference, extractors)
        origin = read_origin(samples)
        about = {"model": origin["model"]} if origin else {}
        scores = self.score(images, reference, extractors, data, findings)
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
            images = open_images(
                self._sample(untrained, folder, at_most=None if self.options.fid_infinity else UNTRAINED_IMAGES)
            )
            drawing = self._drawing(config)
            yield from self._anchor(f"untrained {config.name}", images, data, preset=config.name, drawing=drawing)

    def _anchor(self, name: str, images: ImageSet, data: DataConfig, **about: Any) -> Iterator[RunRecord]:
        reference, extractors = self._reference(data), self.open_extractors(data)
        try:
            self.check_extrapolation(images.count, reference, extractors)
        except InputError as error:  # fewer images than requested; the runs are already scored
            if self.share.is_first:
                self.warn(f"{name}: {error}")
        scores = self.score(images, reference, extractors, data)
        yield from self._store(name, "anchor", scores, images, reference, self.root / "_anchors", **about)

    def _sample(self, generator: ImageGenerator, folder: Path, *, plain: bool = False, at_most: int | None = None) -> Path:
        options = self.options
        with self.report(f"sampling {generator.spec.name}") as update:
            return sample_job(
                generator,
                min(options.n, at_most or options.n),
                folder,
                batch_size=options.batch_size,
                seed=options.seed,
                settings={} if plain else options.settings,
                progress=update,
                share=self.share,
            )

    def _reference(self, data: DataConfig) -> Reference:
        given = self.options.reference
        return self.first_alone(lambda: run_reference(data)) if given is None else self._open_reference(given, data.image_size)

    def _open_reference(self, source: str, image_size: int) -> Reference:
        options = self.options
        return self.first_alone(lambda: open_reference(source, image_size, resize=options.resize, crop=options.crop))

    def _drawing(self, config: RunConfig) -> dict[str, Any]:
        """For the record: seeds and sampling settings of a model of this configuration."""
        sampling = override_dataclass(config.sampling, self.options.settings, "sampling")
        settings = resolved_settings(to_dict(sampling), torch.device(self.device))
        return {"seeds": {"sampling": self.options.seed, "scores": self.options.seed}, "settings": settings}

    def _store(
        self,
        subject: str,
        family: str,
        scores: Sequence[Scores],
        images: ImageSet,
        reference: Reference,
        folder: Path,
        *,
        preset: str = "",
        drawing: Mapping[str, Any] | None = None,
        about: Mapping[str, Any] | None = None,
    ) -> list[RunRecord]:
        """Append the records of images that are not a run's.

        Args:
            about: more provenance.
            drawing: seeds and settings, see `_drawing`; None for third-party samples.
        """
        drawing = drawing or {"seeds": {"scores": self.options.seed}}
        picture = _new_id()
        artifacts = tuple(recording.pictures(images, reference.images, folder, picture)) if scores else ()
        records: list[RunRecord] = []
        for one in scores:
            record = RunRecord(
                id=_new_id() if records else picture,
                kind="eval",
                subject=subject,
                family=family,
                preset=preset,
                metrics=one.metrics,
                tables=one.tables,
                artifacts=artifacts,
                provenance=recording.provenance(
                    self.options.protocol, self.device, **drawing, n=images.count, **one.provenance, **(about or {})
                ),
            )
            ResultStore(folder).append(record)
            records.append(record)
        return records


def _joined(scores: Mapping[str, Any], reconstructions: Mapping[str, Any]) -> dict[str, Any]:
    """The provenance of both, with the scores that either lacks."""
    missing = {**scores.get("missing", {}), **reconstructions.get("missing", {})}
    return {**scores, **reconstructions, **({"missing": missing} if missing else {})}


def _new_id() -> str:
    return uuid.uuid4().hex[:12]
