"""The extractor that was asked for, with its weights or its training data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nvgbench.data.source import ImageDataset, open_dataset
from nvgbench.evaluation.rules.base import Rules
from nvgbench.extractors.classifier_training import LabelledImages, Recipe, obtain_classifier
from nvgbench.extractors.inception import InceptionExtractor, check_extractor
from nvgbench.extractors.vision import VisionExtractor
from nvgbench.interfaces import FeatureExtractor
from nvgbench.progress import Report, quiet

TRAINING_IMAGES = 20_000
"""The classifier learns from so many training images at the most, drawn at random from a fixed seed."""


def open_extractor(
    name: str,
    root: Path,
    source: str,
    image_size: int,
    *,
    data_seed: int = 0,
    inception_weights: Path | None = None,
    extractor_weights: Path | None = None,
    rules: Rules | None = None,
    recipe: Recipe | None = None,
    device: torch.device | str = "cpu",
    report: Report = quiet,
) -> FeatureExtractor:
    """The extractor ``name``; a ``classifier`` is trained on ``source`` where it is not there yet.

    The classifier learns from the whole training split of the source, whatever part of it a run was trained on, so that runs
    on the same data share one extractor and can be compared.

    Args:
        root: folder of the runs; classifiers are kept in its ``_extractors``.
        source: data source whose training images the classifier learns from.
        image_size: side of the images, pixels.
        data_seed: seed of procedural data.
        inception_weights: file of the Inception weights.
        extractor_weights: folder of the weights of ``dinov2`` or ``clip``.
        rules: another evaluator's, who brings an Inception network with preprocessing of its own.
        recipe: how the classifier is trained.
        device: where the extractor runs.
        report: opens a progress display.

    Raises:
        InputError: unknown name, weights that cannot be had, data that do not do for a classifier.
    """
    if check_extractor(name) == "inception":
        return InceptionExtractor(inception_weights, device) if rules is None else rules.extractor(inception_weights, device)
    if name != "classifier":
        return VisionExtractor(name, extractor_weights, device)
    train = open_dataset(source, image_size=image_size, split="train", seed=data_seed)
    held_out = open_dataset(source, image_size=image_size, split="eval", seed=data_seed)
    identity = {"fingerprint": train.fingerprint, "name": train.name, "image_size": image_size, "images": TRAINING_IMAGES}
    with report("training the classifier") as update:
        return obtain_classifier(
            root / "_extractors",
            identity,
            lambda: (labelled(train, TRAINING_IMAGES), labelled(held_out, TRAINING_IMAGES)),
            len(train.classes),
            recipe=recipe,
            device=device,
            progress=update,
        )


def labelled(dataset: ImageDataset, limit: int) -> LabelledImages:
    """At most ``limit`` images in memory, drawn without replacement by a fixed seed."""
    indices = some_indices(len(dataset), limit)
    return LabelledImages(dataset.images(indices), torch.from_numpy(dataset.labels[indices]))


def some_indices(count: int, limit: int, seed: int = 0) -> np.ndarray:
    """``limit`` of ``count`` indices in random order (all of them where there are fewer)."""
    return np.random.default_rng(seed).permutation(count)[:limit]
