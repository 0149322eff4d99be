"""What a record knows about the single images of its gallery: their scores, and their structure maps.

Shape letters: N generated, M reference images, D features, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from nvgbench.data.image_set import ImageSet
from nvgbench.data.images import save_grid
from nvgbench.evaluation.gallery import row_labels, shown_rows
from nvgbench.evaluation.options import EvaluationOptions
from nvgbench.evaluation.reference import Reference
from nvgbench.extractors.cache import FeatureCache
from nvgbench.interfaces import FeatureExtractor, ImageGenerator
from nvgbench.metrics.neighbours import nearest_distances
from nvgbench.results.schema import Artifact
from nvgbench.sampling.job import image_seed
from nvgbench.sampling.pictures import colour_structure
from nvgbench.types import Features, SampleRequest, StageTrace

_TABLE = "images"


def image_table(
    images: ImageSet, reference: Reference, extractor: FeatureExtractor, cache: FeatureCache
) -> dict[str, list[dict[str, Any]]]:
    """The table ``images`` of `image_rows`, from features in the cache; nothing without labels."""
    if images.labels_N is None:
        return {}
    generated = cache.extract(images.chunks(), extractor)
    real = None if reference.statistics_only else cache.extract(reference.images.chunks(), extractor)
    return {_TABLE: image_rows(images, generated, real, extractor.name)}


def image_rows(images: ImageSet, generated: Features, reference: Features | None, extractor: str) -> list[dict[str, Any]]:
    """A row per image of the gallery by class; none without labels.

    Args:
        images: the samples, with the requested classes.
        generated: their features, as the extractor gives them.
        reference: features of the reference images; None if there are only statistics.
        extractor: its name. Only the data set's own classifier has logits of the requested classes.

    Returns:
        Place in the gallery (``row``, ``column``), ``index``, ``class``, and as far as known ``confidence`` (probability of the
        requested class) and ``nearest`` (Euclidean distance of the features to the nearest real image).
    """
    rows = shown_rows(images)
    wanted = [index for row in rows.values() for index in row]
    scores: dict[str, np.ndarray] = {}
    if extractor == "classifier" and wanted and max(rows) < generated.logits_NK.shape[1]:
        logits_NK = torch.from_numpy(generated.logits_NK[wanted]).double()
        labels_N = torch.from_numpy(images.labels_N[wanted])  # type: ignore[index]  # there are rows, so there are labels
        scores["confidence"] = logits_NK.softmax(1).gather(1, labels_N[:, None])[:, 0].numpy()
    if reference is not None and wanted:
        scores["nearest"] = nearest_distances(generated.features_ND[wanted], reference.features_ND)
    places = [(row, column, label) for row, (label, own) in enumerate(rows.items()) for column in range(len(own))]
    return [
        {"row": row, "column": column, "index": wanted[number], "class": label}
        | {name: float(values[number]) for name, values in scores.items()}
        for number, (row, column, label) in enumerate(places)
    ]


def structure_grid(
    generator: ImageGenerator,
    images: ImageSet,
    folder: Path,
    record_id: str,
    names: Sequence[str],
    options: EvaluationOptions,
) -> list[Artifact]:
    """A grid of structure maps at the middle stage, tile by tile below the gallery of samples; none without structure.

    Args:
        generator: draws the images of the gallery again, with their stages.
        images: the samples, with the requested classes.
        folder: of the record that the artifact belongs to.
        record_id: of that record, the beginning of the picture's name.
        names: of the classes, if known.
        options: seed and settings of the sampling, and how many images are drawn at once.
    """
    rows = shown_rows(images)
    wanted = [index for row in rows.values() for index in row]
    path, batch_size = Path("pictures") / f"{record_id}-structure.png", options.batch_size
    maps: list[Image.Image] = []
    tokens = 0
    # One image first, which tells whether the model has structure maps at all.
    for batch in [wanted[:1], *(wanted[start : start + batch_size] for start in range(1, len(wanted), batch_size))]:
        if not batch:
            continue
        request = SampleRequest(
            labels_B=torch.from_numpy(images.labels_N[batch]),  # type: ignore[index]  # there are rows, so there are labels
            seeds_B=torch.tensor([image_seed(options.seed, index) for index in batch]),
            settings=options.settings,
            trace=True,
        )
        stage = _middle(generator.generate(request).trace)
        if stage is None or stage.structure_BHW is None:
            return []
        tokens = stage.tokens
        maps += [colour_structure(map_HW, tokens, images.image_size) for map_HW in stage.structure_BHW]
    if not maps:
        return []
    tiles_N3HW = torch.from_numpy(np.stack([np.asarray(one) for one in maps])).permute(0, 3, 1, 2)
    save_grid(tiles_N3HW, folder / path, columns=len(next(iter(rows.values()))))
    caption = f"structure maps of {tokens} tokens, of the samples at the same place"
    return [Artifact(kind="structure", path=str(path), caption=caption, rows=row_labels(rows, names))]


def _middle(trace: Sequence[StageTrace] | None) -> StageTrace | None:
    return trace[len(trace) // 2] if trace else None
