"""How fast images are drawn, and handed out once they are in memory."""

from __future__ import annotations

import numpy as np
import pytest

from nvgbench.data.loader import training_batches
from nvgbench.data.scene import render
from nvgbench.data.shapes import ShapesDataset


@pytest.mark.parametrize("size", [32, 64, 256])
def test_drawing_a_hundred_shapes(benchmark, size: int) -> None:
    dataset = ShapesDataset(image_size=size, split="train", count=100, seed=0)
    render(dataset.scene(0), size)

    def draw() -> None:
        for index in range(100):
            dataset.read(index)

    benchmark(draw)


def test_a_batch_of_256_from_memory(benchmark) -> None:
    dataset = ShapesDataset(image_size=32, split="train", count=2048, seed=0)
    dataset.images(np.arange(2048))
    batches = training_batches(dataset, 256, seed=0)
    benchmark(lambda: next(batches))
