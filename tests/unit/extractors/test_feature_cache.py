"""The feature cache: keyed by content, resumable, and never trusted when damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nvgbench.data.image_set import Chunk
from nvgbench.errors import InputError
from nvgbench.extractors.cache import FeatureCache, content_key
from nvgbench.types import Share


class Counting:
    """Means of halves of the image; counts what it was given and stops where it is told to."""

    name = "counting"

    def __init__(self, fingerprint: str = "a" * 64, stop_after: int | None = None) -> None:
        self.fingerprint = fingerprint
        self.stop_after = stop_after
        self.provenance: dict[str, str] = {}
        self.seen = 0

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if self.stop_after is not None and self.seen >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += len(images)
        flat = images.float().flatten(1)
        return flat[:, :8], flat.mean(dim=1, keepdim=True)


IMAGES = torch.randint(0, 255, (50, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_resumed_extraction_equals_the_unbroken_one(tmp_path: Path) -> None:
    whole = FeatureCache(None).extract(IMAGES.split(10), Counting())
    cache, broken = FeatureCache(tmp_path, batch_size=5), Counting(stop_after=25)
    with pytest.raises(KeyboardInterrupt):
        cache.extract(IMAGES.split(10), broken)
    again, done = Counting(), []
    resumed = cache.extract(IMAGES.split(10), again, done.append)
    assert again.seen == 30  # two whole chunks were kept
    assert done == [10, 20, 30, 40, 50]
    assert np.array_equal(resumed.features_ND, whole.features_ND)
    assert np.array_equal(resumed.logits_NK, whole.logits_NK)
    assert resumed.fingerprint == whole.fingerprint
    assert len(resumed) == 50


def test_other_images_or_another_extractor_are_computed(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    cache.extract([IMAGES], Counting())
    changed = IMAGES.clone()
    changed[3, 0, 0, 0] ^= 1
    for images, fingerprint, expected in ((IMAGES, "a" * 64, 0), (changed, "a" * 64, 50), (IMAGES, "b" * 64, 50)):
        extractor = Counting(fingerprint)
        cache.extract([images], extractor)
        assert extractor.seen == expected


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "short"])
def test_damaged_chunk_is_computed_again(tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    cache = FeatureCache(tmp_path)
    good = cache.extract([IMAGES], Counting())
    path = next(tmp_path.rglob("*.npz"))
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "flip":
        content[len(content) // 3] ^= 0xFF
    elif damage == "empty":
        content = bytearray()
    path.write_bytes(content)
    if damage == "short":
        np.savez(path, features=np.zeros((3, 8)), logits=np.zeros((3, 1)))
    extractor = Counting()
    assert np.array_equal(cache.extract([IMAGES], extractor).features_ND, good.features_ND)
    assert extractor.seen == 50
    assert "computed again" in caplog.text
    assert cache.extract([IMAGES], Counting(stop_after=0)).fingerprint == good.fingerprint


def test_refuses_bad_input() -> None:
    with pytest.raises(InputError, match="no images"):
        FeatureCache(None).extract([], Counting())
    with pytest.raises(InputError, match="uint8"):
        content_key(torch.zeros(1, 3, 4, 4))


def test_a_whole_set_is_found_by_its_fingerprint(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path)
    extractor = Counting()
    kept = cache.extract(IMAGES.split(30), extractor)
    found = cache.stored(extractor.name, extractor.fingerprint, kept.fingerprint)
    assert found is not None
    assert np.array_equal(found.features_ND, kept.features_ND)
    assert np.array_equal(found.logits_NK, kept.logits_NK)
    assert cache.stored(extractor.name, "f" * 64, kept.fingerprint) is None
    next(tmp_path.rglob("*.npz")).unlink()
    assert cache.stored(extractor.name, extractor.fingerprint, kept.fingerprint) is None


def test_another_version_of_a_library_is_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FeatureCache(tmp_path)
    cache.extract([IMAGES], Counting())
    monkeypatch.setattr("nvgbench.extractors.cache._library_versions", lambda: ("torch-fidelity 9.9",))
    newer = Counting()
    cache.extract([IMAGES], newer)
    assert newer.seen == 50


def test_several_fill_what_one_fills(tmp_path: Path) -> None:
    """Each reads and extracts its own chunks alone, and all learn all keys."""
    chunks = [Chunk(10, lambda part=part: part) for part in IMAGES.split(10)]
    alone = FeatureCache(tmp_path / "one").fill(chunks, [Counting()])
    cache, seen, keys = FeatureCache(tmp_path / "two"), [Counting(), Counting()], [{}, {}]

    def keep(rank: int, value: dict) -> list[dict]:
        keys[rank] = value
        return keys

    # one after the other: the first comes last and sees what both have done
    cache.fill(chunks, [seen[1]], Share(1, 2, lambda value: [dict.fromkeys(range(5), ""), *keep(1, value)[1:]]))
    last = cache.fill(chunks, [seen[0]], Share(0, 2, lambda value: keep(0, value)))
    assert last == alone
    assert [extractor.seen for extractor in seen] == [30, 20]
    known = [Chunk(10, pytest.fail, key) for key in alone]
    again = Counting()
    assert np.array_equal(cache.extract(known, again).features_ND, IMAGES.float().flatten(1)[:, :8].numpy())
    assert again.seen == 0
    with pytest.raises(InputError, match="give one"):
        FeatureCache(None).fill(chunks, [Counting()], Share(0, 2, lambda value: [value]))


def test_several_extractors_share_one_reading_of_the_images(tmp_path: Path) -> None:
    """One that has seen a chunk before does not see it again, and the images are read for the other alone."""
    reads = []

    def chunks() -> list[Chunk]:
        return [Chunk(10, lambda part=part: reads.append(1) or part) for part in IMAGES.split(10)]

    cache, first, second = FeatureCache(tmp_path), Counting("a" * 64), Counting("b" * 64)
    alone = cache.extract(IMAGES.split(10)[:2], first)
    both = cache.extract_all(chunks(), [first, second])
    assert len(reads) == 5
    assert (first.seen, second.seen) == (50, 50)
    assert np.array_equal(both[0].features_ND[:20], alone.features_ND)
    for extractor, features in zip((first, second), both, strict=True):
        stored = cache.stored(extractor.name, extractor.fingerprint, features.fingerprint)
        assert stored is not None
        assert np.array_equal(stored.features_ND, features.features_ND)
