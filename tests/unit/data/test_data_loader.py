from __future__ import annotations

from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nvgbench.data.dataset import ImageDataset
from nvgbench.data.loader import sequential_batches, training_batches
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError


class Numbered(ImageDataset):
    """Image i is filled with the number i."""

    def __init__(self, count: int) -> None:
        labels = np.arange(count, dtype=np.int64)
        super().__init__(name="numbered", classes=("x",) * count, labels=labels, image_size=2, fingerprint="")

    def read(self, index: int) -> np.ndarray:
        return np.full((2, 2, 3), index, dtype=np.uint8)


def _labels(batches, steps: int) -> list[list[int]]:
    return [batch.labels_B.tolist() for batch in islice(batches, steps)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for class_name in ("a", "b"):
        for part in ("train", "val"):
            (tmp_path / part / class_name).mkdir(parents=True)
            for i in range(6):
                pixels = rng.integers(0, 256, (24, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / class_name / f"{i}.png")
    return tmp_path


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 30),
    share=st.integers(1, 8),
    world_size=st.integers(1, 4),
    start=st.integers(0, 20),
    seed=st.integers(-5, 5),
)
def test_ranks_and_resumption_repeat_the_single_unbroken_process(count, share, world_size, start, seed):
    dataset, batch_size = Numbered(count), share * world_size
    whole = _labels(training_batches(dataset, batch_size, seed=seed), start + 3)
    ranks = [
        _labels(training_batches(dataset, batch_size, seed=seed, start_step=start, rank=rank, world_size=world_size), 3)
        for rank in range(world_size)
    ]
    assert [list(chain(*parts)) for parts in zip(*ranks, strict=True)] == whole[start:]


@given(count=st.integers(1, 30), batch_size=st.integers(1, 13))
@settings(max_examples=40, deadline=None)
def test_an_epoch_shows_every_image_once(count, batch_size):
    steps = -(-3 * count // batch_size)
    stream = list(chain(*_labels(training_batches(Numbered(count), batch_size, seed=1), steps)))
    for epoch in range(3):
        assert sorted(stream[epoch * count : (epoch + 1) * count]) == list(range(count))


def test_epochs_and_seeds_are_shuffled_differently():
    streams = [_labels(training_batches(Numbered(100), 100, seed=seed), 2) for seed in (0, 1)]
    orders = {tuple(order) for stream in streams for order in stream}
    assert len(orders) == 4
    assert tuple(range(100)) not in orders


def test_labels_belong_to_their_images_and_pixels_are_scaled():
    for batch in islice(training_batches(Numbered(9), 4, seed=0), 5):
        assert batch.images_B3HW.dtype == torch.float32
        expected = (batch.labels_B / 127.5 - 1)[:, None, None, None].expand(4, 3, 2, 2)
        torch.testing.assert_close(batch.images_B3HW, expected)


@pytest.mark.parametrize("augment", ["none", "random-crop"])
def test_worker_processes_change_nothing(folder: Path, augment, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("nvgbench.data.dataset.CACHE_LIMIT_BYTES", 0)
    dataset = open_dataset(f"imagefolder:{folder}", image_size=16, split="train", augment=augment)
    assert not dataset.in_memory
    here, there = (islice(training_batches(dataset, 5, seed=3, start_step=2, workers=n), 6) for n in (0, 2))
    for mine, theirs in zip(here, there, strict=True):
        assert torch.equal(mine.images_B3HW, theirs.images_B3HW)
        assert torch.equal(mine.labels_B, theirs.labels_B)


def test_random_crops_follow_seed_step_and_position(folder: Path):
    dataset = open_dataset(f"imagefolder:{folder}", image_size=16, split="train", augment="random-crop")
    first, again = (next(training_batches(dataset, 12, seed=3, start_step=4)) for _ in range(2))
    assert torch.equal(first.images_B3HW, again.images_B3HW)
    halves = [next(training_batches(dataset, 12, seed=3, start_step=4, rank=r, world_size=2)).images_B3HW for r in (0, 1)]
    assert torch.equal(torch.cat(halves), first.images_B3HW)
    later = {next(training_batches(dataset, 12, seed=3, start_step=s)).images_B3HW.sum().item() for s in range(4)}
    assert len(later) == 4


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_is_one_line_naming_it(folder: Path, workers: int):
    (folder / "train" / "a" / "3.png").write_bytes(b"not an image")
    dataset = open_dataset(f"imagefolder:{folder}", image_size=16, split="train", augment="random-crop")
    with pytest.raises(InputError, match=r"train/a/3\.png cannot be read") as caught:
        list(islice(training_batches(dataset, 12, seed=0, workers=workers), 1))
    assert "\n" not in str(caught.value)


def test_sequential_batches_keep_the_order_and_stop():
    labels = [batch.labels_B.tolist() for batch in sequential_batches(Numbered(7), 3)]
    assert labels == [[0, 1, 2], [3, 4, 5], [6]]
    assert [batch.labels_B.tolist() for batch in sequential_batches(Numbered(7), 3, limit=4)] == [[0, 1, 2], [3]]
    assert [len(batch.labels_B) for batch in sequential_batches(Numbered(7), 3, limit=99)] == [3, 3, 1]


def test_sequential_batches_are_never_augmented(folder: Path):
    plain, cropped = (
        open_dataset(f"imagefolder:{folder}", image_size=16, split="train", augment=augment)
        for augment in ("none", "random-crop")
    )
    one, other = next(sequential_batches(plain, 12)), next(sequential_batches(cropped, 12))
    assert torch.equal(one.images_B3HW, other.images_B3HW)


def test_impossible_batches_are_refused():
    with pytest.raises(InputError, match="batch size 5 cannot be divided among 2 processes"):
        training_batches(Numbered(4), 5, seed=0, world_size=2)
    with pytest.raises(InputError, match="has no images"):
        training_batches(Numbered(0), 5, seed=0)


def test_half_of_the_images_are_mirrored_the_same_ones_however_the_work_is_divided():
    def open_(flip: bool) -> ImageDataset:
        return open_dataset("shapes", image_size=16, split="train", limit=40, flip=flip)

    plain, flipped = (training_batches(open_(flip), 40, seed=2, start_step=1) for flip in (False, True))
    before, after = next(plain).images_B3HW, next(flipped).images_B3HW
    mirrored_B = (after == before.flip(-1)).flatten(1).all(dim=1)
    assert ((after == before).flatten(1).all(dim=1) | mirrored_B).all()
    assert 8 <= int(mirrored_B.sum()) <= 32  # 20 ± 4 standard deviations
    shares = [next(training_batches(open_(True), 40, seed=2, start_step=1, rank=r, world_size=2)) for r in (0, 1)]
    assert torch.equal(torch.cat([share.images_B3HW for share in shares]), after)
    held = open_dataset("shapes", image_size=16, split="eval", limit=4, flip=True)
    assert held.views == 1
    assert all(torch.equal(one, two) for one, two in zip(*([s.image for s in open_(f)] for f in (False, True)), strict=True))
