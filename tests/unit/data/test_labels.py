"""Labels from names of files and folders, and the same numbers on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nvgbench.data.image_set import ImageSet, in_memory, open_images
from nvgbench.data.labels import labels_of_paths
from nvgbench.data.matching import match_classes
from nvgbench.sampling import export

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("paths", "labels", "names"),
    [
        (["000000_class0003.png", "000001_class0000.png"], [3, 0], ()),
        (["a/0_class7.png", "b/1_class2147483647.jpg"], [7, 2**31 - 1], ()),
        (["0_class3.png", "1.png"], None, ()),
        (["cat/0.png", "dog/1.png", "cat/deep/2.png"], [0, 1, 0], ("cat", "dog")),
        (["10/0.png", "2/1.png"], [0, 1], ("10", "2")),
        (["cat/0.png", "1.png"], None, ()),
        (["images/0.png", "images/1.png"], None, ()),
        (["00000/img00000000.png", "00001/img00001000.png"], None, ()),
        (["train/0.png", "Val/1.png"], None, ()),
        (["0.png", "1.png"], None, ()),
    ],
)
def test_labels_in_names(paths: list[str], labels: list[int] | None, names: tuple[str, ...]) -> None:
    found, classes = labels_of_paths(paths)
    assert (None if found is None else found.tolist()) == labels
    assert classes == names


def folder_set(folder: Path, names: list[str]) -> ImageSet:
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[number]).save(folder / name / f"{number}.png")
    return open_images(folder)


def numbered(labels: list[int] | None, classes: tuple[str, ...] = ()) -> ImageSet:
    images = in_memory("others", torch.zeros(3, 3, 16, 16, dtype=torch.uint8), None if labels is None else np.array(labels))
    return ImageSet(**{**vars(images), "classes": classes})


def test_samples_that_were_written_as_files_keep_their_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", PIXELS, np.array([3, 1, 4, 1, 5, 9]))
    images = open_images(export.place(tmp_path / "x.npz", tmp_path / "out"))
    assert images.labels_N is not None
    assert images.labels_N.tolist() == [3, 1, 4, 1, 5, 9]
    assert torch.equal(images.first(6), open_images(tmp_path / "x.npz").first(6))


def test_folders_are_matched_by_name(tmp_path: Path) -> None:
    images = folder_set(tmp_path, ["cat", "emu", "emu"])
    found, reference = match_classes(images, numbered([0, 1, 2], ("cat", "dog", "emu")))
    assert found.labels_N is not None
    assert found.labels_N.tolist() == [0, 2, 2]
    assert found.classes == reference.classes
    found, reference = match_classes(numbered([0, 1, 2], ("cat", "dog", "emu")), images)
    assert reference.labels_N is not None
    assert reference.labels_N.tolist() == [0, 2, 2]


def test_two_sets_of_folders(tmp_path: Path) -> None:
    few, many = folder_set(tmp_path / "few", ["b", "c"]), folder_set(tmp_path / "many", ["a", "b", "c"])
    for found, reference in (match_classes(few, many), match_classes(many, few)[::-1]):
        assert found.labels_N is not None
        assert reference.labels_N is not None
        assert found.labels_N.tolist() == [1, 2]
        assert reference.labels_N.tolist() == [0, 1, 2]
    other = folder_set(tmp_path / "other", ["b", "x"])
    assert [side.labels_N for side in match_classes(few, other)] == [None, None]


def test_folders_called_by_numbers_are_those_classes(tmp_path: Path) -> None:
    images = folder_set(tmp_path, ["10", "2", "2"])
    found, _ = match_classes(images, numbered([0, 2, 10]))
    assert found.labels_N is not None
    assert found.labels_N.tolist() == [10, 2, 2]
    assert found.classes == ()


def test_folders_without_a_counterpart_are_no_labels(tmp_path: Path) -> None:
    images = folder_set(tmp_path, ["part one", "part two"])
    for others in (numbered([0, 1, 2]), numbered([0, 1, 2], ("cat", "dog", "emu"))):
        found, _ = match_classes(images, others)
        assert found.labels_N is None
        assert [remark.about for remark in found.remarks] == ["labels"]
        assert "part one, part two) are not classes of others; its images are taken without labels" in found.remarks[0].text
    assert match_classes(images, numbered(None))[0] is images
