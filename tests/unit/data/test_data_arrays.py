from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision.datasets

from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError


def _images(count: int = 20, size: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def _open(path: Path, split="train", size: int = 16, **options):
    return open_dataset(f"npz:{path}", image_size=size, split=split, **options)


@pytest.mark.parametrize("key", ["arr_1", "labels"])
def test_npz_keeps_pixels_and_labels_together(tmp_path: Path, key: str):
    images, labels = _images(), np.arange(20) % 3
    np.savez(tmp_path / "x.npz", arr_0=images, **{key: labels})
    train, held = _open(tmp_path / "x.npz"), _open(tmp_path / "x.npz", "eval")
    assert len(train) == 17
    assert sorted(held.labels.tolist()) == [0, 1, 2]
    assert train.classes == ("0", "1", "2")
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    seen = [(s.image.permute(1, 2, 0).numpy().tobytes(), s.label) for dataset in (train, held) for s in dataset]
    assert dict(seen) == known
    assert len(seen) == 20


def test_npz_in_any_order_of_axes_is_read(tmp_path: Path):
    np.savez(tmp_path / "c.npz", _images())
    np.savez(tmp_path / "fortran.npz", np.asfortranarray(_images()))
    rows, columns = _open(tmp_path / "c.npz"), _open(tmp_path / "fortran.npz")
    assert torch.equal(rows.images(np.arange(18)), columns.images(np.arange(18)))
    assert rows.fingerprint == columns.fingerprint


def test_npz_without_labels_is_one_class(tmp_path: Path):
    np.savez_compressed(tmp_path / "x.npz", _images())
    assert _open(tmp_path / "x.npz").classes == ("0",)


def test_npz_is_resized_and_limited(tmp_path: Path):
    np.savez(tmp_path / "x.npz", _images(), np.repeat([0, 1], 10))
    dataset = _open(tmp_path / "x.npz", size=32, limit=6)
    assert dataset.images(np.arange(6)).shape == (6, 3, 32, 32)
    assert np.bincount(dataset.labels).tolist() == [3, 3]


def test_npz_fingerprint_is_that_of_the_content(tmp_path: Path):
    images = _images()
    np.savez(tmp_path / "a.npz", images)
    np.savez_compressed(tmp_path / "b.npz", images)
    images[:, 0, 0, 0] ^= 1
    np.savez(tmp_path / "c.npz", images)
    a, b, c = (_open(tmp_path / f"{name}.npz").fingerprint for name in "abc")
    assert a == b != c


def test_cached_images_cannot_be_changed_from_outside(tmp_path: Path):
    np.savez(tmp_path / "x.npz", _images())
    dataset = _open(tmp_path / "x.npz")
    first = dataset.images(np.arange(3))
    assert first.is_contiguous()
    kept = first.clone()
    first.zero_()
    assert torch.equal(dataset.images(np.arange(3)), kept)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": _images().astype(np.float32)}, r"float32 \[20, 16, 16, 3\]; expected uint8"),
        ({"arr_0": _images().transpose(0, 3, 1, 2)}, r"\[20, 3, 16, 16\]; expected"),
        ({"arr_0": _images(1)}, "at least 2"),
        ({"pictures": _images()}, "has no arr_0; it holds pictures, expected arr_0"),
        ({"arr_0": _images(), "arr_1": np.zeros(19, dtype=np.int64)}, r"int64 of shape \(19,\); expected 20 integers"),
        ({"arr_0": _images(), "arr_1": np.full(20, 0.5)}, "float64 of shape .*; expected 20 integers"),
        ({"arr_0": _images(), "arr_1": np.full(20, -1)}, "expected 20 integers from 0, one per image"),
        ({"arr_0": _images(), "arr_1": np.full(20, 10**6)}, "label 1000000 is out of range"),
        ({"arr_0": np.array([{}])}, "arr_0 is an array of Python objects"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, arrays, message: str):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message) as caught:
        _open(tmp_path / "x.npz")
    assert "x.npz" in str(caught.value)


def test_files_that_are_no_npz_are_refused(tmp_path: Path):
    with pytest.raises(InputError, match="does not exist"):
        _open(tmp_path / "x.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(InputError, match=r"text\.npz is a text file, not an \.npz file"):
        _open(tmp_path / "text.npz")


def test_npy_is_one_class(tmp_path: Path):
    np.save(tmp_path / "bare.npy", _images())
    np.savez(tmp_path / "x.npz", _images())
    bare, archive = _open(tmp_path / "bare.npy"), _open(tmp_path / "x.npz")
    assert bare.classes == ("0",)
    assert bare.fingerprint == archive.fingerprint


@pytest.mark.parametrize("key", ["classes", "class_names"])
def test_npz_may_name_its_classes(tmp_path: Path, key: str):
    np.savez(tmp_path / "x.npz", _images(), np.arange(20) % 2, **{key: np.array(["cat", "dog", "emu"])})
    assert _open(tmp_path / "x.npz").classes == ("cat", "dog", "emu")
    np.savez(tmp_path / "x.npz", _images(), np.arange(20) % 4, **{key: np.array(["cat", "dog", "emu"])})
    with pytest.raises(InputError, match="label 3 has no name; its array of class names holds 3"):
        _open(tmp_path / "x.npz")


def test_cifar_uses_files_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def stub(root: str, *, train: bool, download: bool) -> SimpleNamespace:
        assert root == str(tmp_path)
        assert not download
        count = 8 if train else 4
        return SimpleNamespace(data=_images(count, 32), targets=[i % 2 for i in range(count)], classes=["cat", "dog"])

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", stub)
    for source, root in ((f"cifar10:{tmp_path}", None), ("cifar10", tmp_path)):
        dataset = open_dataset(source, image_size=32, split="eval", root=root)
        assert len(dataset) == 4
        assert dataset.classes == ("cat", "dog")


def test_a_failed_download_names_the_archive_and_other_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Offline:
        filename = "cifar-100-python.tar.gz"

        def __init__(self, root: str, *, train: bool, download: bool) -> None:
            raise URLError("no network") if download else RuntimeError("not found")

    monkeypatch.setattr(torchvision.datasets, "CIFAR100", Offline)
    with pytest.raises(InputError) as caught:
        open_dataset(f"cifar100:{tmp_path}", image_size=32, split="train")
    for part in ("no network", str(tmp_path), "cifar-100-python.tar.gz", "data='imagefolder:PATH'", "data='shapes'"):
        assert part in str(caught.value)
