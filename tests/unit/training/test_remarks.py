"""What the data's reader remarks is told once, also what is known only after the images have been read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nvgbench.data.source import open_dataset
from nvgbench.training.run import _tell_remarks


def test_remarks_are_told_once(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    images[:18] = 0
    np.savez(tmp_path / "x.npz", images, np.arange(20) % 4)
    dataset = open_dataset(f"npz:{tmp_path / 'x.npz'}", image_size=32, split="train", limit=3)
    said: list[str] = []
    told = _tell_remarks(dataset, lambda report: said.append(report["message"]), set())
    assert said == ["warning: classes: no image of 1 of the 4 classes: 3"]
    dataset.preload()
    told = _tell_remarks(dataset, lambda report: said.append(report["message"]), told)
    assert len(said) == 2
    assert "in which every pixel is black" in said[1]
    _tell_remarks(dataset, lambda report: said.append(report["message"]), told)
    assert len(said) == 2
