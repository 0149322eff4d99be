"""Scores of a run's samples that leave the run's own records alone, for sweeps and repeated samplings."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from nvgbench.ablations.study import Context, Row
from nvgbench.data.image_set import from_dataset, open_images
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError
from nvgbench.evaluation.reference import Reference
from nvgbench.evaluation.scores import ScoreSettings, evaluate_samples
from nvgbench.extractors.cache import FeatureCache
from nvgbench.extractors.registry import ExtractorRequest, open_extractor
from nvgbench.interfaces import FeatureExtractor, ImageGenerator
from nvgbench.runs.folder import RunFolder
from nvgbench.sampling.job import sample_job

METRICS = ("frechet", "neighbours")
"""Computed for each sampling: the Fréchet distance, precision, recall, density and coverage."""
_BATCH = 64


def study_extractor(run: RunFolder, context: Context) -> FeatureExtractor:
    """The extractor of the study's scores; one that learns does so on the run's own data.

    Raises:
        InputError: it is not available, or the data do not suit it.
    """
    folder = context.root / "_extractors"
    return open_extractor(context.extractor, ExtractorRequest(device=context.device, data=run.config.data, folder=folder))


def extractor_or_none(run: RunFolder, context: Context) -> FeatureExtractor | None:
    """The same for a score that a study can do without, such as rFD; a warning says why there is none."""
    try:
        return study_extractor(run, context)
    except InputError as error:
        warnings.warn(f"{run.name}: no Fréchet distance of reconstructions: {error}", stacklevel=2)
        return None


def sampled_scores(
    run: RunFolder,
    context: Context,
    *,
    seed: int,
    settings: Mapping[str, Any] | None = None,
    split: Literal["train", "eval"],
    generator: ImageGenerator | None = None,
    metrics: Sequence[str] = METRICS,
) -> list[Row]:
    """Draw samples into a temporary folder and score them: rows of metric, value, higher_is_better.

    Args:
        run: with a trained generator.
        context: number of samples, extractor, device.
        seed: of the samples.
        settings: overrides of the sampling settings.
        split: the reference: the first images of the training set, or the held-out ones.
        generator: what draws the samples; the run's own if None.
        metrics: to compute.
    """
    data = run.config.data
    dataset = open_dataset(
        data.source, image_size=data.image_size, split=split, limit=data.eval_images or context.samples, seed=data.seed
    )
    extractor = study_extractor(run, context)
    with tempfile.TemporaryDirectory(prefix="nvgbench-study-") as folder:
        with context.report(f"sampling {run.name}") as progress:
            samples = sample_job(
                generator or run.load_generator(context.device), context.samples, folder,
                batch_size=_BATCH, seed=seed, settings=settings or {}, progress=progress,
            )  # fmt: skip
        scores = evaluate_samples(
            open_images(samples),
            Reference(from_dataset(dataset)),
            extractor,
            ScoreSettings(metrics=metrics, seed=context.seed, device=context.device),
            cache=FeatureCache(context.root / "_features", batch_size=_BATCH),
        )
    return [
        {
            "metric": one.name, "value": one.value, "higher_is_better": one.higher_is_better,
            "value_low": None if one.interval is None else one.interval.low,
            "value_high": None if one.interval is None else one.interval.high,
        }
        for one in scores.metrics
    ]  # fmt: skip
