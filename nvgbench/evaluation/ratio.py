"""FDr of a set of extractors: its real images, its value, and a row per extractor."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from nvgbench.config.schema import DataConfig
from nvgbench.data.catalog import is_source
from nvgbench.data.image_set import ImageSet, from_dataset, open_images
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError
from nvgbench.evaluation.reference import Reference
from nvgbench.evaluation.scores import Scores, ScoreSettings, compute_scores, extract
from nvgbench.evaluation.values import metric_value
from nvgbench.extractors.cache import FeatureCache
from nvgbench.extractors.sets import ExtractorSet
from nvgbench.interfaces import FeatureExtractor
from nvgbench.metrics.frechet_ratio import mean_ratio
from nvgbench.metrics.metric import MetricInputs
from nvgbench.metrics.uncertainty import Contributions, interval_of
from nvgbench.progress import Report, quiet
from nvgbench.results.protocols import OWN
from nvgbench.results.scores import named_score, score_name


def real_images(data: DataConfig, n: int, *, source: str | None, seed: int, resize: int | None, crop: str | None) -> ImageSet:
    """``n`` real images beside the reference, drawn with ``seed``.

    Args:
        data: their source is the training split, without the images of `nvgbench.evaluation.anchors.real_images` if it has 2n.
        n: as many as there are samples, as Fréchet distances of other numbers are not comparable.
        source: a file or folder instead.
        seed: of the choice.
        resize, crop: as for samples.

    Raises:
        InputError: there are none, too few, or of another size.
    """
    if source is not None:
        images = open_images(source, resize=resize, crop=crop)
        chosen = np.sort(np.random.default_rng(seed).permutation(images.count)[:n])
    elif is_source(data.source):
        train = open_dataset(data.source, image_size=data.image_size, split="train", seed=data.seed)
        images = from_dataset(train)
        chosen = np.random.default_rng(seed).permutation(len(train))[n:][-n:]
        if len(chosen) < n:
            chosen = np.random.default_rng(seed).permutation(len(train))[-n:]
    else:
        raise InputError(f"{data.source} is no data source with training images; give other real images as `real=`")
    if len(chosen) < n:
        raise InputError(
            f"{images.name} has {images.count} real images for {n} samples; use fewer samples, or give others as `real=`"
        )
    if images.image_size != data.image_size:
        raise InputError(f"{images.name} has images of {images.image_size} px, the samples have {data.image_size} px")
    return dataclasses.replace(
        images,
        count=n,
        load=functools.partial(_chosen, images, chosen),
        stream=None,
        labels_N=None if images.labels_N is None else images.labels_N[chosen],
        keys={},
    )


def _chosen(images: ImageSet, chosen: np.ndarray, indices: Sequence[int]) -> Any:
    """The images at these places of the choice, in its order; `ImageSet.load` takes ascending indices."""
    wanted = chosen[list(indices)]
    order = np.argsort(wanted)
    return images.load(wanted[order].tolist())[np.argsort(order)]


def ratio_scores(
    extractors: ExtractorSet,
    scores: Sequence[Scores],
    images: ImageSet,
    reference: Reference,
    real: ImageSet,
    settings: ScoreSettings,
    *,
    cache: FeatureCache,
    report: Report = quiet,
) -> Scores:
    """FDr with a table of its parts.

    Args:
        extractors: the set.
        scores: of the samples by each of its members, with the Fréchet distance.
        images: the samples.
        reference: what all distances are from.
        real: as many real images, see `real_images`.
        settings: of the scores.
        cache: where features are kept.
        report: opens a progress display.

    Raises:
        InputError: the Fréchet distance was not among the scores, or the real images are the reference's.
    """
    pairs, rows, fingerprint = [], [], ""
    for extractor, found in zip(extractors.members, scores, strict=True):
        name = score_name("FID", extractor.name)
        if name not in found.contributions:
            raise InputError("FDr is computed from Fréchet distances; add FID to `metrics=`")
        floor, fingerprint = _distance(real, reference, extractor, settings, cache, report)
        pairs.append((found.contributions[name], floor))
        one = mean_ratio(pairs[-1:])
        interval = interval_of(one)
        rows.append(
            {
                "extractor": extractor.name,
                "FD": pairs[-1][0].value,
                "FD of real images": floor.value,
                "FDr": one.value,
                "low": None if interval is None else named_score("FDr").clip(interval).low,
                "high": None if interval is None else interval.high,
            }
        )
    names = ", ".join(extractor.name for extractor in extractors.members)
    without = f"; without {', '.join(extractors.missing)}" if extractors.missing else ""
    total = dataclasses.replace(mean_ratio(pairs), note=f"mean over {names}{without}")
    value = metric_value("FDr", extractors.name, total, images.count, reference.images.count or reference.count)
    about = scores[0].provenance
    members = {extractor.name: extractor.fingerprint for extractor in extractors.members}
    return Scores(
        metrics=(value,),
        tables={f"{value.name} by extractor": rows},
        provenance={
            "extractor": {"name": extractors.name, "fingerprint": _hash(sorted(members.values())), "members": members},
            # Both are what the score compares with, so that scores with other real images are not compared.
            "reference": {**about["reference"], "fingerprint": _hash([about["reference"]["fingerprint"], fingerprint])},
            "real": {"name": real.name, "fingerprint": fingerprint, "n": real.count},
            "samples": about["samples"],
            **({"choices": about["choices"]} if "choices" in about else {}),
            **({"lint": about["lint"]} if "lint" in about else {}),
            **({"missing": _missing(extractors)} if extractors.missing else {}),
        },
        contributions={value.name: total},
    )


def _missing(extractors: ExtractorSet) -> dict[str, str]:
    return {score_name("FID", name): reason for name, reason in extractors.missing.items()}


def _distance(
    real: ImageSet,
    reference: Reference,
    extractor: FeatureExtractor,
    settings: ScoreSettings,
    cache: FeatureCache,
    report: Report,
) -> tuple[Contributions, str]:
    """The Fréchet distance of the real images, and their fingerprint."""
    features = extract(real, extractor, cache, report, "features of real images")
    if reference.statistics_only:
        known = dataclasses.replace(features, features_ND=features.features_ND[:0], logits_NK=features.logits_NK[:0])
    else:
        known = extract(reference.images, extractor, cache, report, "features of the reference")
    moments, _ = reference.used_moments(OWN, extractor.name)
    inputs = MetricInputs(
        generated=features,
        reference=known,
        extractor=extractor.name,
        moments=None if moments is None else (moments.mean_D, moments.covariance_DD),
        seed=settings.seed,
        device=settings.device,
    )
    return compute_scores(inputs, ["FID"])[1][score_name("FID", extractor.name)], features.fingerprint


def _hash(parts: Sequence[str]) -> str:
    return hashlib.sha256("/".join(parts).encode()).hexdigest()
