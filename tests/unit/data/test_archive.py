"""Images in an npz: any of them at any time, in memory that does not grow with their number."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvgbench.data.archive import NpzImages
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
