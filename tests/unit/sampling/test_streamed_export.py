"""Copies and pictures of large files of samples are made without holding them; several processes draw what one draws."""

from __future__ import annotations

import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nvgbench.data.archive import NpzImages
from nvgbench.errors import InputError
from nvgbench.sampling import export
from nvgbench.sampling.job import sample_job
from nvgbench.types import ModelSpec, SampleRequest, SampleResult, Share


@pytest.mark.parametrize("name", ["a.npz", "folder", "guidance-1.5", "there.v2", ".hidden", "..", "."])
def test_samples_go_to_an_archive_or_a_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "there.v2").mkdir()
    export.check_place(tmp_path / name)


@pytest.mark.parametrize("name", ["z.jpg", "z.png", "z.NPZ", "z.tar.gz", "new.v2"])
def test_other_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"give \S+\.npz or a folder, e\.g\."):
        export.check_place(tmp_path / name)


class Noise:
    """Noise of the seed; counts its images and checks that batches are as one process would ask for them."""

    spec = ModelSpec(name="noise", family="external", image_size=32, num_classes=3)

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def generate(self, request: SampleRequest) -> SampleResult:
        self.batches.append(tuple(request.seeds_B.tolist()))
        images = [
            torch.randint(0, 256, (3, 32, 32), generator=torch.Generator().manual_seed(seed)) for seed in self.batches[-1]
        ]
        return SampleResult(torch.stack(images).byte())


class Meeting:
    """Lets threads stand in for processes."""

    def __init__(self, count: int) -> None:
        self.barrier = threading.Barrier(count)
        self.values: list[Any] = [None] * count

    def share(self, rank: int) -> Share:
        def gather(value: Any) -> list[Any]:
            self.values[rank] = value
            self.barrier.wait(30)
            found = list(self.values)
            self.barrier.wait(30)
            return found

        return Share(rank, len(self.values), gather)


@pytest.mark.parametrize("count", [2, 3])
def test_several_draw_what_one_draws(tmp_path: Path, count: int) -> None:
    alone = Noise()
    whole = sample_job(alone, 50, tmp_path / "one", batch_size=8)
    meeting, makers, paths = Meeting(count), [Noise() for _ in range(count)], {}

    def draw(rank: int) -> None:
        paths[rank] = sample_job(makers[rank], 50, tmp_path / "several", batch_size=8, share=meeting.share(rank))

    threads = [threading.Thread(target=draw, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert set(paths.values()) == {paths[0]}
    for name in ("arr_0", "arr_1"):
        np.testing.assert_array_equal(np.load(paths[0])[name], np.load(whole)[name])
    assert sorted(batch for maker in makers for batch in maker.batches) == alone.batches
    assert min(len(maker.batches) for maker in makers) >= len(alone.batches) // count


def test_the_memory_of_copies_does_not_grow(tmp_path: Path) -> None:
    """Assembling, unpacking and drawing a grid of 64 and of 640 images of 32 px (0.2 and 2 MB), 64 of them at once."""
    peaks = []
    for n in (64, 640):
        maker = Noise()
        sample_job(maker, n, tmp_path / f"{n}")
        next((tmp_path / f"{n}").rglob("samples-*.npz")).unlink()
        tracemalloc.start()
        made = sample_job(maker, n, tmp_path / f"{n}")
        export.place(made, tmp_path / f"out{n}")
        export.place(made, tmp_path / f"copy{n}.npz")
        export.write_grid(made, tmp_path / f"grid{n}.png", 3)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        pixels = np.concatenate(list(NpzImages(made).stream(100)))
        for index in (0, n - 1):
            path = tmp_path / f"out{n}" / f"{index:06d}_class{index % 3:04d}.png"
            np.testing.assert_array_equal(np.asarray(Image.open(path)), pixels[index])
        assert len(list((tmp_path / f"out{n}").iterdir())) == n
    assert peaks[1] < peaks[0] + 2**18  # 0.26 MB: names and labels of ten times as many images
