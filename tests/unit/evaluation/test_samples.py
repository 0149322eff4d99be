"""Reading samples and references: what is right is streamed in order, what is wrong is refused in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nvgbench.errors import InputError
from nvgbench.evaluation.lint.inspection import inspect
from nvgbench.evaluation.reference import open_reference
from nvgbench.evaluation.samples import in_memory, open_samples

PIXELS = np.random.default_rng(0).integers(0, 256, (23, 16, 16, 3), dtype=np.uint8)


def gather(path: Path, size: int) -> np.ndarray:
    chunks = list(open_samples(path).read(size))
    assert all(len(chunk) <= size for chunk in chunks)
    return torch.cat(chunks).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("labels", ["arr_1", "labels", None])
def test_npz(tmp_path: Path, save, labels: str | None) -> None:
    path = tmp_path / "x.npz"
    save(path, arr_0=PIXELS, **({labels: np.arange(23) % 4} if labels else {}))
    images = open_samples(path)
    assert (images.count, images.image_size) == (23, 16)
    assert (images.labels_N is None) == (labels is None)
    for size in (1, 10, 100):
        assert np.array_equal(gather(path, size), PIXELS)
    assert images.first(3).shape == (3, 3, 16, 16)


def test_hidden_files_are_not_samples(tmp_path: Path) -> None:
    """A process killed while it unpacked samples leaves half a picture under a hidden name."""
    Image.fromarray(PIXELS[0]).save(tmp_path / "0.png")
    (tmp_path / ".1.png.x.png").write_bytes(b"half")
    assert open_samples(tmp_path).count == 1


def test_folder_is_sorted_and_lossy_files_are_counted(tmp_path: Path) -> None:
    for index in reversed(range(5)):
        (tmp_path / f"{index % 2}").mkdir(exist_ok=True)
        Image.fromarray(PIXELS[index]).save(tmp_path / f"{index % 2}" / f"{index}.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert np.array_equal(gather(tmp_path, 2), PIXELS[[0, 2, 4, 1, 3]])
    Image.fromarray(PIXELS[0]).save(tmp_path / "z.jpg")
    assert open_samples(tmp_path).lossy == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": PIXELS.astype(np.float32)}, "float32, expected uint8"),
        ({"arr_0": PIXELS[:, :, :8]}, "square"),
        ({"arr_0": PIXELS.transpose(0, 3, 1, 2)}, "expected .N, H, W, 3."),
        ({"arr_0": PIXELS[:0]}, "expected"),
        ({"images": PIXELS}, "holds images.npy, expected arr_0"),
        ({"arr_0": PIXELS, "arr_1": np.arange(5)}, "one an image"),
        ({"arr_0": PIXELS, "arr_1": np.full(23, -1)}, "integers from 0"),
        ({"arr_0": PIXELS, "arr_1": np.array(["a"] * 23, dtype=object)}, "cannot be read"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, arrays: dict, message: str) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message) as caught:
        open_samples(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_fortran_order(tmp_path: Path, save) -> None:
    path = tmp_path / "x.npz"
    save(path, arr_0=np.asfortranarray(PIXELS), arr_1=np.arange(23))
    images = open_samples(path)
    for size in (1, 10, 100):
        assert np.array_equal(gather(path, size), PIXELS)
    assert np.array_equal(images.load([2, 3, 7]).permute(0, 2, 3, 1).numpy(), PIXELS[[2, 3, 7]])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        list(open_samples(path).read(5))


@pytest.mark.parametrize("form", [lambda c: c[:, None], lambda c: np.eye(4)[c], lambda c: np.eye(4, dtype=bool)[c], np.float32])
def test_labels_of_other_forms_are_read(tmp_path: Path, form) -> None:
    classes, path = np.arange(23) % 4, tmp_path / "x.npz"
    np.savez(path, arr_0=PIXELS, arr_1=form(classes))
    images = open_samples(path)
    assert images.labels_N is not None
    assert images.labels_N.dtype == np.int64
    assert np.array_equal(images.labels_N, classes)
    assert images.remarks == ()


@pytest.mark.parametrize(
    "labels",
    [
        np.full(23, 0.5),
        np.full(23, np.nan),
        np.full(23, -1.0),
        np.full((23, 4), 0.25),
        np.full((23, 1, 1), 1),
        np.array(["cat"] * 23),
        np.full(23, True),
    ],
)
def test_labels_that_are_no_classes_are_ignored_with_a_warning(tmp_path: Path, labels: np.ndarray) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, arr_0=PIXELS, arr_1=labels)
    images = open_samples(path)
    assert images.labels_N is None
    found = [finding for finding in inspect(images, None, dimension=8) if finding.check == "labels"]
    assert len(found) == 1
    assert f"x.npz are {labels.dtype} of shape {labels.shape}" in str(found[0])
    found = inspect(in_memory("y", torch.from_numpy(PIXELS).permute(0, 3, 1, 2)), open_reference(str(path), 16), dimension=8)
    assert "labels" in [finding.check for finding in found]


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_corrupt_npz_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, arr_0=PIXELS)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match="write or copy it again"):
        open_samples(path)


def test_flipped_bits_are_found_while_streaming(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, arr_0=PIXELS)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        list(open_samples(path).read(5))


def test_bad_folders_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no samples at"):
        open_samples(tmp_path / "absent.npz")
    with pytest.raises(InputError, match="no images in this folder"):
        open_samples(tmp_path)
    Image.fromarray(PIXELS[0]).save(tmp_path / "a.png")
    Image.fromarray(PIXELS[0][:8, :8]).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png: 8x8 pixels, expected 16x16"):
        list(open_samples(tmp_path).read(10))
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"b\.png: cannot be read"):
        list(open_samples(tmp_path).read(10))


def test_in_memory_checks() -> None:
    images = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    assert in_memory("x", images).count == 4
    for wrong in (images.float(), images[:, :, :8], images[:0]):
        with pytest.raises(InputError, match="expected"):
            in_memory("x", wrong)


def test_references(tmp_path: Path) -> None:
    path = tmp_path / "ref.npz"
    np.savez(path, arr_0=PIXELS, mu=np.zeros(4), sigma=np.eye(4))
    reference = open_reference(str(path), 16)
    assert reference.moments is not None
    assert reference.moments.covariance_DD.shape == (4, 4)
    with pytest.raises(InputError, match="samples have 32 px"):
        open_reference(str(path), 32)
    with pytest.raises(InputError, match="neither a file or folder nor a data source"):
        open_reference("cifra10", 32)
    assert open_reference("shapes", 16).images.count == 2048
