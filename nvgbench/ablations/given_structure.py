"""Scores of a model whose structure maps are those of real images."""

from __future__ import annotations

from typing import Any

from nvgbench.ablations.real_stages import WithRealStructure, real_stages
from nvgbench.ablations.scoring import sampled_scores
from nvgbench.ablations.study import Context, Row
from nvgbench.nvg.image_generator import NvgImageGenerator
from nvgbench.runs.folder import RunFolder


def scores_with_given_structure(run: RunFolder, context: Context) -> list[Row]:
    """Scores with the structure of training images of the same class at all stages; content, labels and seeds as usual.

    Training images, because the maps of the held-out ones belong to the images that samples are compared with.

    Args:
        run: an NVG run with a trained generator.
        context: number of samples, seed, extractor, device.
    """
    generator = run.load_generator(context.device)
    assert isinstance(generator, NvgImageGenerator)
    real, last = real_stages(run, generator, context), generator.generator.layout.last
    given: Any = WithRealStructure(generator, real.map(last), real.labels_N, last)
    return sampled_scores(run, context, seed=context.seed, split="eval", generator=given)
