"""Images in an npz: any of them at any time, in memory that does not grow with their number."""

from __future__ import annotations

import re
import tarfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvgbench.data.archive import NpzImages, npz_arrays
from nvgbench.data.image_set import open_images
from nvgbench.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (37, 8, 8, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("npz")
    for name, save in (("stored", np.savez), ("compressed", np.savez_compressed)):
        # another member in front, so that the images do not begin where the file does
        save(root / f"{name}.npz", mu=np.zeros(5), arr_0=PIXELS, labels=np.arange(37))
    return {name: root / f"{name}.npz" for name in ("stored", "compressed")}


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["stored", "compressed"]), asked=st.lists(st.lists(st.integers(0, 36), min_size=1), max_size=4))
def test_any_images_in_any_order(files: dict[str, Path], kind: str, asked: list[list[int]]) -> None:
    file = NpzImages(files[kind])
    for indices in asked:
        np.testing.assert_array_equal(file.load(indices), PIXELS[indices])


@pytest.mark.parametrize("kind", ["stored", "compressed"])
def test_in_order(files: dict[str, Path], kind: str) -> None:
    file = NpzImages(files[kind])
    assert (file.count, file.height, file.width) == (37, 8, 8)
    np.testing.assert_array_equal(file.labels(), np.arange(37))
    for size in (1, 10, 37, 50):
        np.testing.assert_array_equal(np.concatenate(list(file.stream(size))), PIXELS)


@pytest.mark.parametrize("kind", ["stored", "compressed"])
def test_damage_is_named(files: dict[str, Path], kind: str, tmp_path: Path) -> None:
    content = bytearray(files[kind].read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npz is damaged"):
        list(NpzImages(tmp_path / "x.npz").stream(10))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, save) -> None:
    """Peak of numpy's own memory while 64 and 1,024 images of 64 px (0.8 and 12.6 MB) are read by 32."""
    peaks = []
    for count in (64, 1024):
        save(tmp_path / "x.npz", arr_0=np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8))
        tracemalloc.start()
        file = NpzImages(tmp_path / "x.npz")
        sums = [sum(int(part.sum()) for part in file.stream(32))]
        sums.append(sum(int(file.load(range(start, start + 32)).sum()) for start in range(0, count, 32)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert sums[0] == sums[1]
    # 32 images are 0.4 MB; a chunk that is being summed, the one before, and buffers of the archive
    assert peaks[1] < peaks[0] + 2**20 < 4 * 2**20


def edit_headers(path: Path, offset: int, value: int) -> None:
    """Write two bytes at ``offset`` of the local header of every member, and the same field of the directory."""
    content = bytearray(path.read_bytes())
    for signature, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        place = content.find(signature)
        while place >= 0:
            content[place + offset + shift : place + offset + shift + 2] = value.to_bytes(2, "little")
            place = content.find(signature, place + 4)
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [
        (8, 9, r"arr_0\.npy is compressed with Deflate64 \(zip method 9\).*; pack it again with deflate"),
        (8, 77, r"compressed with an unknown method \(zip method 77\)"),
        (6, 1, r"arr_0\.npy is encrypted; save the file without a password"),
    ],
)
def test_archives_that_python_does_not_read(tmp_path: Path, offset: int, value: int, said: str) -> None:
    np.savez_compressed(tmp_path / "x.npz", PIXELS)
    edit_headers(tmp_path / "x.npz", offset, value)
    with pytest.raises(InputError, match=rf"x\.npz: .*{said}"):
        NpzImages(tmp_path / "x.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_other_methods_and_their_damages(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive, archive.open("arr_0.npy", "w") as member:
        np.lib.format.write_array(member, PIXELS)
    np.testing.assert_array_equal(np.concatenate(list(NpzImages(tmp_path / "x.npz").stream(10))), PIXELS)
    content = bytearray((tmp_path / "x.npz").read_bytes())
    for place in (len(content) // 3, len(content) // 2):
        damaged = content.copy()
        damaged[place : place + 20] = b"\xff" * 20
        (tmp_path / "y.npz").write_bytes(damaged)
        with pytest.raises(InputError, match=r"y\.npz is damaged"):
            list(NpzImages(tmp_path / "y.npz").stream(10))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is an empty file, not an .npz file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer .* run 'git lfs pull'"),
        (b"<html><body>Sign in</body></html>", "is an HTML page, not an .npz file; download the file again"),
        (b"\x89PNG\r\n\x1a\n", "is a PNG image, not an .npz file; give the folder of the images"),
        (b"PK\x03\x04" + bytes(40), "is not a whole .npz file"),
        (b"\x1f\x8b" + bytes(40), "is a gzip archive"),
        (b"\x80\x04K\x01.", "is a Python pickle"),
        (b"\x93NUMPY", "is damaged"),
        (bytes(99), "is of an unknown format, not an .npz file"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match=rf"x\.npz {said}") as caught:
        NpzImages(tmp_path / "x.npz")
    assert "\n" not in str(caught.value)


def test_statistics_are_told_apart(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", mu=np.zeros(3), sigma=np.eye(3))
    with pytest.raises(InputError, match=r"x\.npz holds statistics \(mu, sigma\) and no images"):
        NpzImages(tmp_path / "x.npz")


def test_a_checkpoint_is_told_apart(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, tmp_path / "x.npz")
    with pytest.raises(InputError, match="is a PyTorch checkpoint"):
        NpzImages(tmp_path / "x.npz")


def test_an_array_that_claims_more_than_there_is(tmp_path: Path) -> None:
    """The header is believed only as far as the member has bytes; nothing is allocated for the rest."""

    def write(name: str, shape: tuple[int, ...], descr: str, data: bytes) -> None:
        with archive.open(f"{name}.npy", "w") as member:
            np.lib.format.write_array_header_1_0(member, {"descr": descr, "fortran_order": False, "shape": shape})
            member.write(data)

    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        write("arr_0", (10**9, 8, 8, 3), "|u1", PIXELS.tobytes())
    with pytest.raises(InputError, match="ends after 37 of 1000000000 images"):
        NpzImages(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        write("arr_0", PIXELS.shape, "|u1", PIXELS.tobytes())
        write("arr_1", (10**12,), "<i8", bytes(8))
        write("labels", (10**12,), "|O", b"")
    file = NpzImages(tmp_path / "x.npz")
    with pytest.raises(InputError, match=r"damaged \(an array of int64 \[1000000000000\] in 136 bytes\)"):
        file.labels()
    assert npz_arrays(tmp_path / "x.npz", ["labels"])["labels"].dtype == object


BLACK = np.zeros((4, 16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (
            BLACK / 255,
            "float64 [4, 16, 16, 3]; expected uint8 images [N, H, W, 3]; scale to 0 to 255, clamp, round and convert",
        ),
        (BLACK.astype(">u2"), ">u2 [4, 16, 16, 3]; expected uint8 images [N, H, W, 3]; convert values of 0 to 255"),
        (BLACK.transpose(0, 3, 1, 2), "move the channels to the end: transpose(0, 2, 3, 1)"),
        (BLACK.transpose(0, 3, 1, 2) / 255, "round and convert; move the channels to the end"),
        (BLACK[0], "add the axis N, even for a single image"),
        (BLACK[..., 0], "repeat grey values in three channels"),
        (BLACK[..., :1], "repeat grey values in three channels"),
        (np.concatenate([BLACK, BLACK[..., :1]], axis=3), "compose alpha onto a background"),
        (np.array(["a"]), "<U1 [1]; expected uint8 images [N, H, W, 3]"),
        (np.zeros(3, dtype=[("x", "u1")]), "[('x', 'u1')] [3]; expected uint8 images"),
        (BLACK > 0, "bool [4, 16, 16, 3]; expected uint8 images"),
    ],
)
def test_an_array_of_another_layout_is_told_how_to_change(array: np.ndarray, said: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", arr_0=array)
    with pytest.raises(InputError, match=re.escape(said)):
        NpzImages(tmp_path / "x.npz")


@pytest.mark.parametrize("shape", ["(-1, 16, 16, 3)", "(1, -16, -16, 3)"])
def test_a_negative_number_of_images(shape: str, tmp_path: Path) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InputError, match="holds 0 images"):
        NpzImages(tmp_path / "x.npy")


def test_labels_of_two_gigabytes_are_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.data.archive._MOST_BYTES", 1000)
    np.savez_compressed(tmp_path / "images.npz", arr_0=BLACK, arr_1=np.zeros(200, dtype=np.int64))
    with pytest.raises(InputError, match=re.escape("an array of int64 [200] where no more than 1,000 bytes are expected")):
        open_images(tmp_path / "images.npz")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file, not an .npz file; save its images as an .npz or as image files"),
        (b"PAR1", "a Parquet file, not an .npz file; save its images"),
        (b"ARROW1", "an Arrow file"),
        (b"SQLite format 3\0", "an SQLite database"),
        (b'\x02\0\0\0\0\0\0\0{"x', "a safetensors file"),
        (b"\x1f\x8b", "a gzip archive, not an .npz file; unpack it and give the folder"),
        (b"\0\0\0\x18ftypmp42", "a video or HEIF image"),
    ],
)
def test_another_format_is_named(content: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match=re.escape(said)):
        open_images(tmp_path / "x.npz")


def test_a_tar_is_no_archive_of_arrays_though_it_ends_like_one(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", arr_0=BLACK)
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(tmp_path / "x.npz", "x.npz")
    with pytest.raises(InputError, match=r"is a tar archive, not an \.npz file; unpack it"):
        open_images(tmp_path / "x.tar")
