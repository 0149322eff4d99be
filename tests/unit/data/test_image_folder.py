from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nvgbench.data.image_set import from_dataset
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError


def _fill(folder: Path, count: int, value: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        Image.fromarray(np.full((16, 16, 3), (value, i, 0), dtype=np.uint8)).save(folder / f"bild {i:03} ü.png")


def _open(path: Path, split="train", **options):
    return open_dataset(f"imagefolder:{path}", image_size=16, split=split, **options)


def _paths(path: Path, split: str, **options) -> set[str]:
    return set(_open(path, split, **options).paths)


@pytest.fixture
def flat(tmp_path: Path) -> Path:
    """Class folders only, with spaces and umlauts, one image deeper down."""
    root = tmp_path / "Meine Bilder ö"
    _fill(root / "ähre", 30, 10)
    _fill(root / "b c", 20, 20)
    _fill(root / "b c" / "deeper", 10, 20)
    (root / "b c" / "notes.txt").write_text("not an image")
    (root / ".cache").mkdir()
    return root


def test_a_tenth_is_held_out_and_nothing_is_shared(flat: Path):
    train, held = _paths(flat, "train"), _paths(flat, "eval")
    assert len(train) == 54
    assert len(held) == 6
    assert not train & held
    assert "b c/deeper/bild 000 ü.png" in train | held
    assert "a tenth of each class held out" in _open(flat).name
    assert _open(flat).classes == ("b c", "ähre")


def test_the_split_follows_the_relative_paths_alone(flat: Path, tmp_path: Path):
    elsewhere = tmp_path / "copy"
    shutil.copytree(flat, elsewhere)
    assert _paths(flat, "eval") == _paths(elsewhere, "eval")
    assert _open(flat).fingerprint == _open(elsewhere).fingerprint


def test_labels_belong_to_their_images(flat: Path):
    for sample in _open(flat):
        assert sample.image[0].unique().tolist() == [(20, 10)[sample.label]]
        assert sample.masks is None


def test_the_fingerprint_follows_files_split_and_size(flat: Path):
    prints = {_open(flat).fingerprint, _open(flat, "eval").fingerprint, _open(flat, limit=5).fingerprint}
    prints.add(open_dataset(f"imagefolder:{flat}", image_size=32, split="train").fingerprint)
    (flat / "ähre" / "new.png").write_bytes((flat / "ähre" / "bild 000 ü.png").read_bytes())
    prints |= {_open(flat).fingerprint, _open(flat, "eval").fingerprint}
    assert len(prints) >= 5


def test_a_limit_is_spread_over_the_classes(flat: Path):
    dataset = _open(flat, limit=8)
    assert np.bincount(dataset.labels).tolist() == [4, 4]
    assert set(dataset.paths) < _paths(flat, "train")


@pytest.mark.parametrize("name", ["val", "validation", "valid", "eval", "test", "Val"])
def test_existing_splits_are_used(tmp_path: Path, name: str):
    _fill(tmp_path / "train" / "a", 3)
    _fill(tmp_path / "train" / "b", 2)
    _fill(tmp_path / name / "b", 4)
    assert {path.split("/")[0] for path in _paths(tmp_path, "train")} == {"train"}
    assert _paths(tmp_path, "eval") == {f"{name}/b/bild {i:03} ü.png" for i in range(4)}
    assert set(_open(tmp_path, "eval").labels.tolist()) == {1}, "classes are those of the training folder"


def test_train_alone_is_split(tmp_path: Path):
    _fill(tmp_path / "train" / "a", 20)
    assert len(_paths(tmp_path, "train")) == 18
    assert len(_paths(tmp_path, "eval")) == 2


def test_a_class_may_be_called_train(tmp_path: Path):
    _fill(tmp_path / "train", 10)
    _fill(tmp_path / "plane", 10)
    assert _open(tmp_path).classes == ("plane", "train")


def test_images_are_cached_and_preloaded(flat: Path):
    dataset, seen = _open(flat), []
    dataset.preload(lambda done, total: seen.append((done, total)))
    assert seen == [(54, 54)]
    before = dataset.images(np.arange(54))
    shutil.rmtree(flat)
    assert torch.equal(dataset.images(np.arange(54)), before)


def test_indices_out_of_range_end_iteration(flat: Path):
    assert len(list(_open(flat, limit=5))) == 5
    with pytest.raises(IndexError):
        _open(flat)[54]


def test_bad_folders_are_refused_in_one_line(tmp_path: Path):
    def message(path: Path, split="train") -> str:
        with pytest.raises(InputError) as caught:
            _open(path, split)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "does not exist" in message(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "is a file" in message(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "has no class folders" in message(tmp_path / "empty")
    _fill(tmp_path / "loose" / "val", 2)
    assert "one folder per class" in message(tmp_path / "loose")
    _fill(tmp_path / "looseval" / "train", 2)
    _fill(tmp_path / "looseval" / "val" / "a", 2)
    assert "looseval/train has no class folders" in message(tmp_path / "looseval")
    (tmp_path / "hollow" / "a").mkdir(parents=True)
    assert "no images below" in message(tmp_path / "hollow")
    _fill(tmp_path / "single" / "a", 1)
    assert "takes 2 images of a class" in message(tmp_path / "single")
    _fill(tmp_path / "strange" / "train" / "horse", 1)
    _fill(tmp_path / "strange" / "val" / "hors", 1)
    assert "did you mean 'horse'?" in message(tmp_path / "strange", "eval")


def test_images_without_class_folders_have_no_classes(tmp_path: Path):
    _fill(tmp_path / "loose", 20)
    _fill(tmp_path / "split" / "train", 3)
    _fill(tmp_path / "split" / "Val", 2)
    train, held = _open(tmp_path / "loose"), _open(tmp_path / "loose", "eval")
    assert (len(train), len(held)) == (18, 2)
    assert not set(train.paths) & set(held.paths)
    assert train.classes == ()
    assert train.labels.tolist() == [0] * 18
    assert [str(remark) for remark in train.remarks] == [
        f"classes: {tmp_path / 'loose'} has no class folders: its images are taken without classes"
    ]
    assert (len(_open(tmp_path / "split")), len(_open(tmp_path / "split", "eval"))) == (3, 2)
    images = from_dataset(held)
    assert images.labels_N is None


def test_classes_can_be_ignored():
    dataset = open_dataset("shapes", image_size=16, split="train", limit=12, unconditional=True)
    assert dataset.classes == ()
    assert dataset.labels.tolist() == [0] * 12


def test_imagenet_needs_synset_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _fill(tmp_path / "train" / "n01440764", 2)
    _fill(tmp_path / "train" / "n01443537", 2)
    (tmp_path / "val").mkdir()
    with pytest.raises(InputError, match="val has no class folders; expected synset folders"):
        open_dataset(f"imagenet:{tmp_path}", image_size=16, split="eval")
    _fill(tmp_path / "val" / "n01443537", 1)
    monkeypatch.setenv("NVGBENCH_IMAGENET", str(tmp_path))
    held = open_dataset("imagenet", image_size=16, split="eval", augment="random-crop")
    assert held.labels.tolist() == [1]
    assert held.augment == "none"
    _fill(tmp_path / "train" / "fish", 1)
    with pytest.raises(InputError, match="holds 'fish'"):
        open_dataset("imagenet", image_size=16, split="train")


def test_imagenet_without_a_path_names_the_ways_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NVGBENCH_IMAGENET", raising=False)
    with pytest.raises(InputError) as caught:
        open_dataset("imagenet", image_size=16, split="train")
    for way in ("data='imagenet:PATH'", "data='imagefolder:PATH'", "data='shapes'", "NVGBENCH_IMAGENET"):
        assert way in str(caught.value)


def test_links_are_followed_and_the_rest_is_counted(flat: Path):
    before = len(_paths(flat, "train") | _paths(flat, "eval"))
    (flat / "ähre" / "more").symlink_to("../b c/deeper")
    (flat / "ähre" / "up").symlink_to("..")
    (flat / "linked class").symlink_to("b c")
    shutil.copy(flat / "ähre" / "bild 000 ü.png", flat / "loose.png")
    assert len(_paths(flat, "train") | _paths(flat, "eval")) == before + 10 + 30
    assert [str(remark) for remark in _open(flat).remarks] == [
        f"files: left out of {flat}: 1 image outside of the class folders, 1 linked folder (already in the set), "
        "2 other files (.txt)"
    ]


def test_black_images_are_noted_once_they_are_read(tmp_path: Path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), dtype=np.uint8)
    noise[3], noise[5], noise[7] = 0, 255, (9, 0, 0)
    (tmp_path / "a").mkdir()
    for number, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / "a" / f"{number:02}.png")
    noted = {}
    for dataset in (_open(tmp_path), _open(tmp_path, "eval")):
        assert dataset.remarks == ()
        dataset.preload()
        noted |= {remark.text.rpartition("/")[2]: remark.text for remark in dataset.remarks}
    texts = " ".join(noted.values())
    assert "1 image in which every pixel is black" in texts
    assert texts.count("in which every pixel is the same") in (1, 2), "one remark per split"
    assert "03.png)" in noted


def test_a_class_keeps_its_last_image(tmp_path: Path):
    """The name of the lone zebra has a smaller hash than all other paths."""
    _fill(tmp_path / "cat", 20)
    _fill(tmp_path / "few", 2)
    (tmp_path / "zebra").mkdir()
    shutil.copy(tmp_path / "cat" / "bild 000 ü.png", tmp_path / "zebra" / "01783.png")
    train, held = _open(tmp_path), _open(tmp_path, "eval")
    assert np.bincount(train.labels).tolist() == [18, 1, 1]
    assert np.bincount(held.labels, minlength=3).tolist() == [2, 1, 0]
    assert train.remarks == ()
    assert [str(remark) for remark in held.remarks] == ["classes: no image of 1 of the 3 classes: zebra"]


def test_a_limit_says_which_classes_are_gone(tmp_path: Path):
    for name in "abcdefghijklmn":
        _fill(tmp_path / name, 3)
    assert _open(tmp_path, limit=14).remarks == ()
    assert [str(remark) for remark in _open(tmp_path, limit=2).remarks] == [
        "classes: no image of 12 of the 14 classes: c, d, e, f, g, h, i, j, k, l …"
    ]


def test_folders_beside_train_are_used_refused_or_named(tmp_path: Path):
    _fill(tmp_path / "train" / "a", 20)
    _fill(tmp_path / "val" / "a", 2)
    for name in ("test/a", "extra"):
        _fill(tmp_path / name, 2)
    assert [str(remark) for remark in _open(tmp_path).remarks] == [
        f"files: folders of {tmp_path} that are not used: extra, test"
    ]
    shutil.rmtree(tmp_path / "val" / "a")
    assert _paths(tmp_path, "eval") == {f"test/a/bild {i:03} ü.png" for i in range(2)}, "an empty val is passed over"
    _fill(tmp_path / "val", 2)
    for split in ("train", "eval"):
        with pytest.raises(InputError, match=r"val holds images but no class folders, .* sort them into .*/val/CLASS/"):
            _open(tmp_path, split)


def test_held_out_classes_beside_their_training_classes_are_refused(tmp_path: Path):
    for name in ("a", "b", "val/a", "val/b"):
        _fill(tmp_path / name, 4)
    with pytest.raises(InputError, match=r"val has the same classes as .*; put the other class folders into .*/train"):
        _open(tmp_path)


def test_numbers_in_text_order_are_remarked(tmp_path: Path):
    for name in ("0", "1", "2", "10"):
        _fill(tmp_path / name, 2)
    assert _open(tmp_path).classes == ("0", "1", "10", "2")
    assert "label 2 is class '10', not '2'; pad the names" in str(_open(tmp_path).remarks[0])
    (tmp_path / "10").rename(tmp_path / "3")
    assert _open(tmp_path).remarks == ()


def test_a_class_without_images_says_what_it_has(tmp_path: Path):
    _fill(tmp_path / "a", 2)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x.heic").touch()
    with pytest.raises(InputError, match=r"/b holds no images; left out of it: 1 other file \(\.heic\); put some"):
        _open(tmp_path)
