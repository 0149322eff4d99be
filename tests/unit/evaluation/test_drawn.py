"""Samples straight from a generator: the same as kept ones, drawn once, and gone on with after a break."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

from nvgbench.data.image_set import CHUNK, open_images
from nvgbench.errors import InputError
from nvgbench.evaluation.drawn import DrawnSet
from nvgbench.evaluation.lint.pixels import every, look
from nvgbench.extractors.cache import FeatureCache
from nvgbench.sampling.job import sample_job
from nvgbench.types import ModelSpec, SampleRequest, SampleResult

N = 2 * CHUNK + 60


class Painter:
    """Noise whose brightness is the class; fails after so many images."""

    def __init__(self, fail_after: int | None = None) -> None:
        self.spec = ModelSpec(name="painter", family="external", image_size=16, num_classes=5)
        self.fail_after = fail_after
        self.made = 0

    def generate(self, request: SampleRequest) -> SampleResult:
        if self.fail_after is not None and self.made >= self.fail_after:
            raise KeyboardInterrupt
        self.made += len(request.labels_B)
        images = torch.zeros(len(request.labels_B), 3, 16, 16, dtype=torch.uint8)
        for image, label, seed in zip(images, request.labels_B.tolist(), request.seeds_B.tolist(), strict=True):
            image += torch.randint(0, 50 * (label + 1), image.shape, generator=torch.Generator().manual_seed(seed)).byte()
        return SampleResult(images)


class Means:
    """Counts what it extracts."""

    name, fingerprint, provenance = "means", "e" * 64, {}

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.seen += len(images)
        means = images.float().mean(dim=(2, 3))
        return means, means


def drawn(generator: Painter, folder: Path, n: int = N) -> DrawnSet:
    return DrawnSet(generator, n, folder, batch_size=64, seed=3, settings={})


def test_drawn_equals_kept(tmp_path: Path) -> None:
    kept = open_images(sample_job(Painter(), N, tmp_path / "kept", seed=3))
    painter = Painter()
    job = drawn(painter, tmp_path / "drawn")
    images = job.images()
    together = torch.cat(list(images.read(CHUNK)))
    assert torch.equal(together, torch.cat(list(kept.read(100))))
    assert painter.made == N
    assert np.array_equal(images.labels_N, kept.labels_N)
    some = [3, 4, 700]
    assert torch.equal(images.load(some), together[some])
    seen, expected = job.pixels(), look(together, every(N))
    for name in ("hashes_N", "histogram_256", "zeros_MG"):
        np.testing.assert_array_equal(getattr(seen, name), getattr(expected, name))
    assert not [path for path in (tmp_path / "drawn").rglob("*") if path.is_file() and path.stat().st_size > 2**17]


def test_nothing_is_drawn_twice(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "features")
    whole = FeatureCache(None).extract(drawn(Painter(), tmp_path / "other").images().chunks(), Means())
    broken = Painter(fail_after=CHUNK + 100)
    with contextlib.suppress(KeyboardInterrupt):
        cache.fill(drawn(broken, tmp_path / "jobs").images().chunks(), Means())
    painter, means = Painter(), Means()
    images = drawn(painter, tmp_path / "jobs").images()
    assert set(images.keys) == {0}
    keys = cache.fill(images.chunks(), means)
    assert painter.made == means.seen == N - CHUNK
    assert len(keys) == 3
    painter, means = Painter(), Means()
    again = cache.extract(drawn(painter, tmp_path / "jobs").images().chunks(), means)
    assert painter.made == means.seen == 0
    assert np.array_equal(again.features_ND, whole.features_ND)
    assert again.fingerprint == whole.fingerprint


def test_other_features_and_damaged_notes_draw_again(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "features")
    cache.fill(drawn(Painter(), tmp_path / "jobs", 70).images().chunks(), Means())
    other = Means()
    other.fingerprint = "f" * 64
    painter = Painter()
    cache.fill(drawn(painter, tmp_path / "jobs", 70).images().chunks(), other)
    assert painter.made == other.seen == 70
    (note,) = (tmp_path / "jobs").rglob("*/drawn/*.npz")
    note.write_bytes(note.read_bytes()[:100])
    painter, means = Painter(), Means()
    cache.fill(drawn(painter, tmp_path / "jobs", 70).images().chunks(), means)
    assert (painter.made, means.seen) == (70, 0)


def test_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1"):
        drawn(Painter(), tmp_path, 0)
