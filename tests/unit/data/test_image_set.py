"""Opening images to be scored: good input is streamed in order, bad input is refused in one line."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nvgbench.data.crop import centre_crop
from nvgbench.data.image_set import in_memory, open_images
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (23, 16, 16, 3), dtype=np.uint8)


def gather(path: Path, size: int) -> np.ndarray:
    chunks = list(open_images(path).read(size))
    assert all(len(chunk) <= size for chunk in chunks)
    return torch.cat(chunks).permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("labels", ["arr_1", "labels", None])
def test_npz(tmp_path: Path, save, labels: str | None) -> None:
    path = tmp_path / "x.npz"
    save(path, arr_0=PIXELS, **({labels: np.arange(23) % 4} if labels else {}))
    images = open_images(path)
    assert (images.count, images.image_size) == (23, 16)
    assert (images.labels_N is None) == (labels is None)
    for size in (1, 10, 100):
        assert np.array_equal(gather(path, size), PIXELS)
    assert images.first(3).shape == (3, 3, 16, 16)


def test_hidden_files_are_not_samples(tmp_path: Path) -> None:
    """A process killed while it unpacked samples leaves half a picture under a hidden name."""
    Image.fromarray(PIXELS[0]).save(tmp_path / "0.png")
    (tmp_path / ".1.png.x.png").write_bytes(b"half")
    assert open_images(tmp_path).count == 1


def test_folder_is_sorted_and_lossy_files_are_counted(tmp_path: Path) -> None:
    for index in reversed(range(5)):
        (tmp_path / f"{index % 2}").mkdir(exist_ok=True)
        Image.fromarray(PIXELS[index]).save(tmp_path / f"{index % 2}" / f"{index}.png")
    (tmp_path / "notes.txt").write_text("no image")
    assert np.array_equal(gather(tmp_path, 2), PIXELS[[0, 2, 4, 1, 3]])
    Image.fromarray(PIXELS[0]).save(tmp_path / "z.jpg")
    assert open_images(tmp_path).lossy == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": PIXELS.astype(np.float32)}, "float32 .*; expected uint8 .*, clamp"),
        ({"arr_0": PIXELS[:, :, :8]}, "square"),
        ({"arr_0": PIXELS.transpose(0, 3, 1, 2)}, "uint8 .*; expected uint8 images .N, H, W, 3."),
        ({"arr_0": PIXELS[:0]}, "expected"),
        ({"images": PIXELS}, "has no arr_0; it holds images, expected arr_0"),
        ({"arr_0": PIXELS, "arr_1": np.arange(5)}, "one per image"),
        ({"arr_0": PIXELS, "arr_1": np.full(23, -1)}, "integers from 0"),
        ({"arr_0": np.array([None])}, "arr_0 is an array of Python objects"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path: Path, arrays: dict, message: str) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message) as caught:
        open_images(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_fortran_order(tmp_path: Path, save) -> None:
    path = tmp_path / "x.npz"
    save(path, arr_0=np.asfortranarray(PIXELS), arr_1=np.arange(23))
    images = open_images(path)
    for size in (1, 10, 100):
        assert np.array_equal(gather(path, size), PIXELS)
    assert np.array_equal(images.load([2, 3, 7]).permute(0, 2, 3, 1).numpy(), PIXELS[[2, 3, 7]])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        list(open_images(path).read(5))


@pytest.mark.parametrize("form", [lambda c: c[:, None], lambda c: np.eye(4)[c], lambda c: np.eye(4, dtype=bool)[c], np.float32])
def test_labels_of_other_forms_are_read(tmp_path: Path, form) -> None:
    classes, path = np.arange(23) % 4, tmp_path / "x.npz"
    np.savez(path, arr_0=PIXELS, arr_1=form(classes))
    images = open_images(path)
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
        np.array(["a"] * 23, dtype=object),
    ],
)
def test_labels_that_are_not_classes_are_ignored_with_a_remark(tmp_path: Path, labels: np.ndarray) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, arr_0=PIXELS, arr_1=labels)
    images = open_images(path)
    assert images.labels_N is None
    assert len(images.remarks) == 1
    assert f"x.npz are {labels.dtype} of shape {labels.shape}" in images.remarks[0].text


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_corrupt_npz_is_refused(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, arr_0=PIXELS)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match="write or copy it again"):
        open_images(path)


def test_flipped_bits_are_found_while_streaming(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, arr_0=PIXELS)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        list(open_images(path).read(5))


def test_bad_folders_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_images(tmp_path / "absent.npz")
    with pytest.raises(InputError, match="no images in this folder"):
        open_images(tmp_path)
    Image.fromarray(PIXELS[0]).save(tmp_path / "a.png")
    Image.fromarray(PIXELS[0][:8, :8]).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png: 8x8 pixels, expected 16x16"):
        list(open_images(tmp_path).read(10))
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"b\.png cannot be read as an image"):
        list(open_images(tmp_path).read(10))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is neither a file nor a folder"):
        open_images(tmp_path / "pipe")


def test_in_memory_checks() -> None:
    images = torch.zeros(4, 3, 16, 16, dtype=torch.uint8)
    assert in_memory("x", images).count == 4
    for wrong in (images.float(), images[:, :, :8], images[:0]):
        with pytest.raises(InputError, match="expected"):
            in_memory("x", wrong)


def test_arrays_and_tensors() -> None:
    images = open_images(PIXELS, name="mine")
    assert (images.name, images.count, images.image_size) == ("mine", 23, 16)
    tensor = torch.from_numpy(PIXELS).permute(0, 3, 1, 2)
    assert torch.equal(torch.cat(list(images.read(10))), tensor)
    assert torch.equal(torch.cat(list(open_images(tensor).read(10))), tensor)
    for wrong in (PIXELS.astype(np.float32), PIXELS.transpose(0, 3, 1, 2), PIXELS[0], tensor.permute(0, 2, 3, 1)):
        with pytest.raises(InputError, match="expected"):
            open_images(wrong)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "I;16", "1"])
def test_training_and_scoring_read_the_same_pixels(tmp_path: Path, mode: str) -> None:
    for index in range(4):
        folder = tmp_path / "class"
        folder.mkdir(exist_ok=True)
        if mode == "I;16":
            image = Image.fromarray(PIXELS[index, :, :, 0].astype(np.uint16) << 8)
        else:
            image = Image.fromarray(PIXELS[index]).convert(mode)
        if mode in ("RGBA", "LA"):
            image.putalpha(Image.fromarray(PIXELS[index, :, :, 1]))
        image.save(folder / f"{index}.png")
    scored = {image.numpy().tobytes() for image in torch.cat(list(open_images(tmp_path).read(3)))}
    splits = [open_dataset(f"imagefolder:{tmp_path}", image_size=16, split=split) for split in ("train", "eval")]
    assert {sample.image.numpy().tobytes() for split in splits for sample in split} == scored
    assert len(scored) == 4


def test_training_and_scoring_see_the_same_files(tmp_path: Path) -> None:
    for suffix in (".png", ".JPG", ".gif", ".tif", ".ppm", ".webp"):
        (tmp_path / "class" / ".hidden").mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS[0]).save(tmp_path / "class" / f"x{suffix}")
        Image.fromarray(PIXELS[0]).save(tmp_path / "class" / ".hidden" / f"y{suffix}")
    splits = [open_dataset(f"imagefolder:{tmp_path}", image_size=16, split=split) for split in ("train", "eval")]
    assert sum(map(len, splits)) == open_images(tmp_path).count == 6


def test_remarks_on_a_folder(tmp_path: Path) -> None:
    Image.fromarray(PIXELS[0]).save(tmp_path / "0.png")
    image = Image.fromarray(PIXELS[1]).convert("RGBA")
    image.putalpha(9)
    image.save(tmp_path / "1.png")
    (tmp_path / "2.png").symlink_to("nowhere")
    images = open_images(tmp_path)
    assert [str(remark) for remark in images.remarks] == [f"files: left out of {tmp_path}: 1 dangling link"]
    list(images.read(10))
    list(images.read(10))
    assert [str(remark) for remark in images.remarks[1:]] == [
        f"images: 1 image with transparent pixels, laid on white ({tmp_path / '1.png'})"
    ]


def test_class_names_of_an_npz(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, PIXELS, np.arange(23) % 3, class_names=np.array(["cat", "dog", "emu"]))
    assert open_images(path).classes == ("cat", "dog", "emu")
    np.savez(path, PIXELS, np.arange(23) % 4, class_names=np.array(["cat", "dog", "emu"]))
    images = open_images(path)
    assert images.classes == ()
    assert "x.npz has 3 class names and the label 3; the names are ignored" in images.remarks[0].text
    np.savez(path, PIXELS, classes=np.arange(23))  # not names
    assert open_images(path).classes == ()


def test_images_under_another_key_and_in_an_npy(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=PIXELS, labels=np.arange(23) % 3)
    with pytest.raises(InputError, match=r"has no arr_0; it holds images, labels, expected arr_0 .* `key='images'`"):
        open_images(tmp_path / "x.npz")
    images = open_images(tmp_path / "x.npz", key="images")
    assert images.labels_N is not None
    assert torch.equal(images.first(23), open_images(PIXELS).first(23))
    with pytest.raises(InputError, match="has no pictures; it holds images, labels"):
        open_images(tmp_path / "x.npz", key="pictures")
    np.save(tmp_path / "x.npy", PIXELS)
    for size in (1, 10, 100):
        assert np.array_equal(gather(tmp_path / "x.npy", size), PIXELS)
    np.save(tmp_path / "fortran.npy", np.asfortranarray(PIXELS))
    assert np.array_equal(gather(tmp_path / "fortran.npy", 10), PIXELS)


def write_zip(path: Path, listed: object = None, folder: str = "00000/", **more: bytes) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number, pixels in enumerate(PIXELS):
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, format="PNG")
            archive.writestr(f"{folder}img{number:08}.png", file.getvalue())
        if listed is not None:
            archive.writestr("dataset.json", json.dumps({"labels": listed}))
        for name, content in more.items():
            archive.writestr(name, content)


def test_a_zip_of_images(tmp_path: Path) -> None:
    classes = (np.arange(23) % 4).tolist()
    write_zip(tmp_path / "x.zip", [[f"00000/img{n:08}.png", label] for n, label in enumerate(classes)])
    for size in (1, 10, 100):
        assert np.array_equal(gather(tmp_path / "x.zip", size), PIXELS)
    images = open_images(tmp_path / "x.zip")
    assert images.labels_N is not None
    assert images.labels_N.tolist() == classes
    assert images.remarks == ()


@pytest.mark.parametrize("listed", [None, [["00000/img00000000.png", 0]], [[f"00000/img{n:08}.png", [0.5]] for n in range(23)]])
def test_a_zip_of_images_without_usable_labels(tmp_path: Path, listed: object) -> None:
    write_zip(tmp_path / "x.zip", listed, **{"LICENSE": b"text", "__MACOSX/._a.png": b""})
    images = open_images(tmp_path / "x.zip")
    assert (images.count, images.labels_N) == (23, None)
    assert [remark.text for remark in images.remarks] == [
        f"left out of {tmp_path / 'x.zip'}: 1 hidden file, 1 other file (no suffix)"
    ]


def test_damaged_zips_of_images(tmp_path: Path) -> None:
    write_zip(tmp_path / "x.zip", "no list")
    with pytest.raises(InputError, match=r"x\.zip is damaged"):
        open_images(tmp_path / "x.zip")
    write_zip(tmp_path / "x.zip")
    content = bytearray((tmp_path / "x.zip").read_bytes())
    content[2000] ^= 1
    (tmp_path / "x.zip").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.zip is damaged|cannot be read as an image"):
        list(open_images(tmp_path / "x.zip").read(10))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(InputError, match=r"x\.zip has no arr_0; it holds readme\.txt"):
        open_images(tmp_path / "x.zip")


OBLONG = np.random.default_rng(1).integers(0, 256, (5, 40, 24, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("options", "expected", "said"),
    [
        ({"resize": 16}, lambda pixels: pixels.resize((16, 16), Image.Resampling.BICUBIC), "to 16x16 px (bicubic)"),
        ({"crop": "center"}, lambda pixels: pixels.crop((0, 8, 24, 32)), "centre crop"),
        (
            {"resize": 16, "crop": "center"},
            lambda pixels: Image.fromarray(centre_crop(np.asarray(pixels), 16)),
            "shorter side to 16 px (box halving, then bicubic), centre crop",
        ),
    ],
)
def test_images_of_other_sizes_are_brought_to_one(tmp_path: Path, options: dict, expected, said: str) -> None:
    np.savez(tmp_path / "x.npz", OBLONG)
    (tmp_path / "files").mkdir()
    for number, pixels in enumerate(OBLONG):
        Image.fromarray(pixels).save(tmp_path / "files" / f"{number}.png")
    right = np.stack([np.asarray(expected(Image.fromarray(pixels))) for pixels in OBLONG])
    tensor = torch.from_numpy(OBLONG).permute(0, 3, 1, 2)
    for given in (tmp_path / "x.npz", tmp_path / "files", OBLONG, tensor):
        with pytest.raises(InputError, match="`resize=` and `crop='center'` bring images of other sizes to one"):
            open_images(given)
        images = open_images(given, **options)
        assert (images.count, images.image_size, str(images.fit)) == (5, right.shape[1], said)
        assert np.array_equal(torch.cat(list(images.read(2))).permute(0, 2, 3, 1).numpy(), right)
        assert np.array_equal(images.load([1, 4]).permute(0, 2, 3, 1).numpy(), right[[1, 4]])


def test_images_that_have_the_size_are_not_touched(tmp_path: Path) -> None:
    for number, pixels in enumerate(PIXELS):
        Image.fromarray(pixels).save(tmp_path / f"{number:02}.png")
    for given in (tmp_path, PIXELS):
        images = open_images(given, resize=16, crop="center")
        assert images.fit is None
        assert np.array_equal(images.first(23).permute(0, 2, 3, 1).numpy(), PIXELS)


def test_unequal_sizes(tmp_path: Path) -> None:
    for number, side in enumerate((16, 20, 33)):
        Image.fromarray(np.resize(PIXELS, (side, 2 * side, 3))).save(tmp_path / f"{number}.png")
    assert open_images(tmp_path, resize=24, crop="center").first(3).shape == (3, 3, 24, 24)
    with pytest.raises(InputError, match=r"1\.png: the shorter side has 20 pixels, expected 16 .*; give `resize=` too"):
        open_images(tmp_path, crop="center")


@pytest.mark.parametrize("options", [{"resize": 0}, {"resize": -3}, {"crop": "left"}, {"resize": 8, "crop": "random"}])
def test_impossible_fits_are_refused(options: dict) -> None:
    with pytest.raises(InputError, match="expected"):
        open_images(PIXELS, **options)
