"""Pictures of sets by class."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from nvgbench.data.image_set import ImageSet
from nvgbench.evaluation.gallery import COLUMNS, class_rows, write_gallery

SIDE = 4


def numbered(labels: np.ndarray | None, count: int) -> ImageSet:
    """Image i is grey of value i."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, SIDE, SIDE)
    return ImageSet(name="grey", count=count, image_size=SIDE, load=lambda indices: images[list(indices)], labels_N=labels)


def tiles(path: Path, rows: int, columns: int) -> list[list[int]]:
    """The grey value of each tile."""
    pixels = np.asarray(Image.open(path))[..., 0]
    assert pixels.shape == (rows * (SIDE + 2) + 2, columns * (SIDE + 2) + 2)
    return pixels[3 :: SIDE + 2, 3 :: SIDE + 2].tolist()


def test_rows_are_classes_in_any_order(tmp_path: Path) -> None:
    for labels in (np.arange(200) % 3, np.sort(np.arange(200) % 3)):
        artifact = write_gallery(numbered(labels, 200), tmp_path, Path("x.png"), "samples", ("ring", "disc"))
        assert artifact.rows == ("ring", "disc", "class 2")
        shown = tiles(tmp_path / "x.png", 3, COLUMNS)
        assert shown == [np.flatnonzero(labels == label)[:COLUMNS].tolist() for label in range(3)]
        assert artifact.caption == "grey: the first 6 of each class, none chosen"


def test_without_classes_the_first_images(tmp_path: Path) -> None:
    artifact = write_gallery(numbered(None, 100), tmp_path, Path("x.png"), "samples")
    assert artifact.rows == ()
    assert tiles(tmp_path / "x.png", COLUMNS, COLUMNS)[0] == list(range(COLUMNS))


def test_a_caption_does_not_say_where_the_images_lie(tmp_path: Path) -> None:
    images = dataclasses.replace(numbered(None, 4), name="imagefolder:/mnt/disk/faces (eval)")
    artifact = write_gallery(images, tmp_path, Path("x.png"), "samples")
    assert artifact.caption.startswith("imagefolder:…/faces (eval): ")


def test_many_classes_and_few_images() -> None:
    rows = class_rows(np.arange(100))
    assert rows == {label: [label] for label in range(10)}
    # a class without a full row gives way to those that have one
    assert list(class_rows(np.array([0] + [1] * 8 + [2] * 8))) == [1, 2]
