"""Damaged and arbitrary bytes in every reader: an `InputError` of one line or a result, never another exception or a hang.

Mutations of valid files reach further into the readers than random bytes do. Memory is bounded by what a header may claim.
"""

from __future__ import annotations

import functools
import io
import json
import resource
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
from nvgbench.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
MOST_MEMORY = 1 << 30
"""Bytes that reading a small file may add to the process."""


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


@st.composite
def damaged(draw: st.DrawFn, kinds: list[str]) -> bytes:
    """A valid file with some bytes replaced, then perhaps cut, repeated or prolonged."""
    content = bytearray(valid(draw(st.sampled_from(kinds))))
    for _ in range(draw(st.integers(0, 8))):
        # Most of what a reader believes stands at the beginning or, of archives, at the end.
        place = draw(st.one_of(st.integers(0, 200), st.integers(0, len(content) - 1), st.integers(-200, -1)))
        new = draw(st.one_of(st.binary(min_size=1, max_size=4), st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff"])))
        place %= len(content)
        content[place : place + len(new)] = new
    change = draw(st.sampled_from(["none", "none", "cut", "tail", "twice"]))
    if change == "cut":
        return bytes(content[: draw(st.integers(0, len(content)))])
    if change == "tail":
        return bytes(content) + draw(st.binary(max_size=40))
    return bytes(content) * (2 if change == "twice" else 1)


def tolerated(read: Callable[[], object]) -> None:
    """Read; one line and no great memory, or a result."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    said = "one line"
    try:
        read()
    except InputError as error:
        said = str(error)
    assert len(said.splitlines()) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MOST_MEMORY / 1024


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


quick = settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.mark.filterwarnings("ignore")
@quick
@given(content=st.one_of(damaged(list(PICTURES)), st.binary(max_size=600)), suffix=st.sampled_from([".png", ".tga"]))
def test_image_files(place: Path, content: bytes, suffix: str) -> None:
    folder = place / suffix[1:]
    folder.mkdir(exist_ok=True)
    (folder / f"x{suffix}").write_bytes(content)
    tolerated(lambda: list(open_images(folder, resize=16).read(10)))


@pytest.mark.filterwarnings("ignore")
@quick
@given(content=st.one_of(damaged(list(ARRAYS)), st.binary(max_size=600), st.text(max_size=50).map(str.encode)))
def test_arrays_and_archives(place: Path, content: bytes) -> None:
    path = place / "x.npz"
    path.write_bytes(content)
    tolerated(lambda: list(open_images(path).read(5)))
    tolerated(lambda: open_images(path).first(3))
    tolerated(lambda: open_dataset(f"npz:{path}", image_size=16, split="train").preload())


@quick
@given(content=st.one_of(damaged(list(STATISTICS)), st.binary(max_size=300)))
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
