"""Scores and structure maps of the images in a gallery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nvgbench.data.image_set import in_memory
from nvgbench.evaluation.options import EvaluationOptions
from nvgbench.evaluation.shown import image_rows, structure_grid
from nvgbench.sampling.job import image_seed
from nvgbench.sampling.pictures import structure_colours
from nvgbench.types import Features, ModelSpec, SampleRequest, SampleResult, StageTrace

SIDE = 4
LABELS = np.array([0, 1, 1, 0, 1])
IMAGES = in_memory("grey", torch.zeros(5, 3, SIDE, SIDE, dtype=torch.uint8), LABELS)


def test_confidence_and_nearest_image() -> None:
    logits = np.log(np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4], [0.5, 0.5]], dtype=np.float32))
    generated = Features(np.array([[0.0], [1.0], [2.0], [3.0], [4.0]], dtype=np.float32), logits, "")
    real = Features(np.array([[-1.0], [3.5]], dtype=np.float32), np.zeros((2, 0), dtype=np.float32), "")
    rows = image_rows(IMAGES, generated, real, "classifier")
    # Only the class with the fullest row is shown.
    assert [(row["row"], row["column"], row["index"], row["class"]) for row in rows] == [
        (0, 0, 1, 1),
        (0, 1, 2, 1),
        (0, 2, 4, 1),
    ]
    assert [row["confidence"] for row in rows] == pytest.approx([0.8, 0.3, 0.5])
    assert [row["nearest"] for row in rows] == pytest.approx([2.0, 1.5, 0.5])
    # Logits of another network are of other classes, and stored statistics have no images.
    assert "confidence" not in image_rows(IMAGES, generated, real, "inception")[0]
    assert "nearest" not in image_rows(IMAGES, generated, None, "classifier")[0]


def test_structure_maps_are_of_the_shown_images(tmp_path: Path) -> None:
    asked: list[tuple[int, int]] = []

    class Halves:
        spec = ModelSpec(name="halves", family="nvg", image_size=SIDE, num_classes=2)
        structured = True

        def generate(self, request: SampleRequest) -> SampleResult:
            """The middle stage is one colour per image: that of the last digit of its index, modulo 2."""
            assert request.trace
            asked.extend(zip(request.labels_B.tolist(), request.seeds_B.tolist(), strict=True))
            images = torch.zeros(len(request.seeds_B), 3, SIDE, SIDE, dtype=torch.uint8)
            maps = (request.seeds_B % 2)[:, None, None].expand(-1, 2, 2) if self.structured else None
            stages = tuple(StageTrace(tokens=tokens, canvas_B3HW=images, structure_BHW=maps) for tokens in (1, 2, 4))
            return SampleResult(images, trace=stages)

    def grid(model: Halves) -> list:
        return structure_grid(model, IMAGES, tmp_path, "r", ("ring", "disc"), EvaluationOptions(seed=7, batch_size=2))

    (artifact,) = grid(Halves())
    assert (artifact.kind, artifact.rows) == ("structure", ("disc",))  # three images of it, two rings
    assert asked == [(1, image_seed(7, 1)), (1, image_seed(7, 2)), (1, image_seed(7, 4))]
    pixels = np.asarray(Image.open(tmp_path / "pictures" / "r-structure.png"))
    shown = pixels[3, 3 :: SIDE + 2]
    assert shown.tolist() == structure_colours(2)[[1, 0, 0]].tolist()
    plain = Halves()
    plain.structured = False
    asked.clear()
    assert grid(plain) == []
    assert len(asked) == 1
