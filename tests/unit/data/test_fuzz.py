"""Damaged and arbitrary bytes in every reader: an `InputError` of one line or a result, never another exception or a hang.

Mutations of valid files reach further into the readers than random bytes do. Memory is bounded by what a header may claim.
"""

from __future__ import annotations

import functools
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from nvgbench.data.image_set import open_images
from nvgbench.data.moments import read_statistics
from nvgbench.data.source import open_dataset
from tests.helpers.damage import damaged, tolerated

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)


def picture(format_: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS[0]).convert(mode).save(file, format_, **options)
    return file.getvalue()


def archive(method: int, **arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as target:
        for name, array in arrays.items():
            with target.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return file.getvalue()


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, PIXELS)
    return file.getvalue()


def zip_of_images() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for number in range(3):
            target.writestr(f"{number}.png", picture("PNG"))
        target.writestr("dataset.json", json.dumps({"labels": [[f"{number}.png", number] for number in range(3)]}))
    return file.getvalue()


def torch_statistics() -> bytes:
    file = io.BytesIO()
    torch.save({"mu": np.zeros(4), "sigma": np.eye(4)}, file)
    return file.getvalue()


LABELS, NAMES = np.arange(12) % 3, np.array(["cat", "dog", "emu"])
PICTURES: dict[str, Callable[[], bytes]] = {
    "png": lambda: picture("PNG"),
    "png with a palette": lambda: picture("PNG", "P", transparency=0),
    "jpeg": lambda: picture("JPEG"),
    "gif": lambda: picture("GIF"),
    "webp": lambda: picture("WEBP"),
    "lossless webp": lambda: picture("WEBP", lossless=True),
    "avif": lambda: picture("AVIF"),
    "bmp": lambda: picture("BMP"),
    "tiff": lambda: picture("TIFF"),
    "compressed tiff": lambda: picture("TIFF", compression="tiff_lzw"),
    "float tiff": lambda: picture("TIFF", "F"),
    "jpeg 2000": lambda: picture("JPEG2000"),
    "ppm": lambda: picture("PPM"),
    "qoi": lambda: picture("QOI"),
    "tga": lambda: picture("TGA"),
    "pcx": lambda: picture("PCX"),
    "sgi": lambda: picture("SGI"),
    "dds": lambda: picture("DDS"),
    "ico": lambda: picture("ICO"),
    "xbm": lambda: picture("XBM", "1"),
}
ARRAYS: dict[str, Callable[[], bytes]] = {
    "stored npz": lambda: archive(zipfile.ZIP_STORED, arr_0=PIXELS, arr_1=LABELS, classes=NAMES),
    "deflated npz": lambda: archive(zipfile.ZIP_DEFLATED, arr_0=PIXELS, arr_1=LABELS, classes=NAMES),
    "lzma npz": lambda: archive(zipfile.ZIP_LZMA, arr_0=PIXELS, arr_1=LABELS),
    "bzip2 npz": lambda: archive(zipfile.ZIP_BZIP2, arr_0=PIXELS, arr_1=LABELS),
    "fortran npz": lambda: archive(zipfile.ZIP_STORED, arr_0=np.asfortranarray(PIXELS)),
    "npy": npy,
    "zip of images": zip_of_images,
}
STATISTICS: dict[str, Callable[[], bytes]] = {
    "statistics": lambda: archive(zipfile.ZIP_DEFLATED, mu=np.zeros(4), sigma=np.eye(4), mu_s=np.zeros(3), sigma_s=np.eye(3)),
    "torch statistics": torch_statistics,
}
valid = functools.cache(lambda kind: (PICTURES | ARRAYS | STATISTICS)[kind]())


def mutated(kinds: dict[str, Callable[[], bytes]]) -> st.SearchStrategy[bytes]:
    return damaged(st.sampled_from(list(kinds)).map(valid))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


quick = settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.filterwarnings("ignore")
@quick
@given(
    content=st.one_of(mutated(PICTURES), st.binary(max_size=600)),
    suffix=st.sampled_from([".png", ".tga"]),
)
def test_image_files(place: Path, content: bytes, suffix: str) -> None:
    folder = place / suffix[1:]
    folder.mkdir(exist_ok=True)
    (folder / f"x{suffix}").write_bytes(content)
    tolerated(lambda: list(open_images(folder, resize=16).read(10)))


@pytest.mark.filterwarnings("ignore")
@quick
@given(content=st.one_of(mutated(ARRAYS), st.binary(max_size=600), st.text(max_size=50).map(str.encode)))
def test_arrays_and_archives(place: Path, content: bytes) -> None:
    path = place / "x.npz"
    path.write_bytes(content)
    tolerated(lambda: list(open_images(path).read(5)))
    tolerated(lambda: open_images(path).first(3))
    tolerated(lambda: open_dataset(f"npz:{path}", image_size=16, split="train").preload())


@quick
@given(content=st.one_of(mutated(STATISTICS), st.binary(max_size=300)))
def test_statistics(place: Path, content: bytes) -> None:
    (place / "x").write_bytes(content)
    tolerated(lambda: read_statistics(place / "x"))


anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["labels", "0.png", "x"]), inner),
    max_leaves=6,
)


@settings(deadline=None, max_examples=60)
@given(listed=anything)
def test_any_json_as_a_list_of_labels(tmp_path_factory: pytest.TempPathFactory, listed: object) -> None:
    path = tmp_path_factory.mktemp("json") / "x.zip"
    with zipfile.ZipFile(path, "w") as target:
        target.writestr("0.png", picture("PNG"))
        target.writestr("dataset.json", json.dumps(listed))
    tolerated(lambda: open_images(path))


@pytest.mark.parametrize("read", ["open_images", "read_statistics"])
@pytest.mark.parametrize("depth", [1_000, 100_000])
def test_deep_nesting(read: str, depth: int, tmp_path: Path) -> None:
    """In a header, and in the list of labels."""
    header = b"[" * depth
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as target:
        target.write(tmp_path / "x.npy", "mu.npy")
        target.write(tmp_path / "x.npy", "sigma.npy")
        target.write(tmp_path / "x.npy", "arr_0.npy")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as target:
        target.writestr("0.png", picture("PNG"))
        target.writestr("dataset.json", header)
    reader = {"open_images": open_images, "read_statistics": read_statistics}[read]
    for name in ("x.npy", "x.npz", "x.zip"):
        tolerated(functools.partial(reader, tmp_path / name))
