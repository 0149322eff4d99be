"""Scores of a model whose structure maps are those of real images."""

from __future__ import annotations

from typing import Any

import torch

from nvgbench.ablations.error_propagation import WithRealStructure
from nvgbench.ablations.scoring import sampled_scores
from nvgbench.ablations.study import Context, Row
from nvgbench.data.loader import sequential_batches
from nvgbench.data.source import training_set
from nvgbench.nvg.image_generator import NvgImageGenerator
from nvgbench.runs.folder import RunFolder

_BATCH = 64


def scores_with_given_structure(run: RunFolder, context: Context) -> list[Row]:
    """Scores with the structure of training images of the same class at all stages; content, labels and seeds as usual.

    Training images, because the maps of the held-out ones belong to the images that samples are compared with.

    Args:
        run: an NVG run with a trained generator.
        context: number of samples, seed, extractor, device.
    """
    generator = run.load_generator(context.device)
    assert isinstance(generator, NvgImageGenerator)
    maps: list[Any] = []
    labels = []
    for batch in sequential_batches(training_set(run.config.data), _BATCH, limit=context.samples):
        with torch.no_grad():
            maps.append(generator.tokenizer.encode(batch.images_B3HW.to(context.device)).structure_BL)
        labels.append(batch.labels_B)
    given: Any = WithRealStructure(generator, torch.cat(maps), torch.cat(labels), generator.generator.layout.last)
    return sampled_scores(run, context, seed=context.seed, split="eval", generator=given)
