"""The classifier as an extractor: it learns, repeats, and is stored completely or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nvgbench.errors import InputError
from nvgbench.extractors.classifier import load_classifier, obtain_classifier
from nvgbench.extractors.classifier_network import SmallResNet, preprocess
from nvgbench.extractors.classifier_training import LabelledImages, Recipe, augment, train_classifier

RECIPE = Recipe(cycles=(4,), batch_size=32, width=4, learning_rate=0.1)


def stripes(n: int, seed: int) -> LabelledImages:
    """Class 0: bright upper half, class 1: bright lower half, with noise."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 120, (n, 3, 16, 16), generator=rng, dtype=torch.uint8)
    labels = torch.arange(n) % 2
    images[labels == 0, :, :8] += 120
    images[labels == 1, :, 8:] += 120
    return LabelledImages(images, labels)


def data() -> tuple[LabelledImages, LabelledImages]:
    return stripes(256, 0), stripes(100, 1)


def test_learns_and_is_read_back_the_same(tmp_path: Path) -> None:
    calls = []

    def load() -> tuple[LabelledImages, LabelledImages]:
        calls.append(1)
        return data()

    first = obtain_classifier(tmp_path, {"fingerprint": "x", "name": "imagefolder:/data"}, load, 2, recipe=RECIPE)
    assert first.provenance["held_out_accuracy"] > 0.95
    second = obtain_classifier(tmp_path, {"fingerprint": "x", "name": "imagefolder:data"}, load, 2, recipe=RECIPE)
    assert len(calls) == 1
    assert second.fingerprint == first.fingerprint
    images = data()[1].images_N3HW[:5]
    for a, b in zip(first(images), second(images), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)
    assert first(images)[0].shape == (5, 32)
    assert [path.name.split("-")[0] for path in tmp_path.iterdir()] == ["classifier"]
    obtain_classifier(tmp_path, {"fingerprint": "y"}, load, 2, recipe=RECIPE)
    assert len(calls) == 2


def test_training_repeats_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    nets = [train_classifier(*data(), 2, Recipe(cycles=(1,), width=4, seed=seed)) for seed in (0, 0, 1)]
    assert torch.equal(before, torch.get_rng_state())
    first, same, other = (net.head.weight for net in nets)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_second_cycle_only_if_needed() -> None:
    steps: list[int] = []
    recipe = Recipe(cycles=(4, 4), batch_size=32, width=4, learning_rate=0.1)
    train_classifier(*data(), 2, recipe, progress=lambda done, total: steps.append(done))
    assert steps.count(4 * 256) == 1
    steps.clear()
    strict = Recipe(cycles=(1, 1), batch_size=32, width=4, enough=1.1)
    train_classifier(*data(), 2, strict, progress=lambda done, total: steps.append(done))
    assert steps.count(256) == 2


def test_default_width_gives_128_features_and_large_images_are_averaged() -> None:
    images = torch.randint(0, 255, (2, 3, 96, 96), dtype=torch.uint8)
    assert preprocess(images).shape == (2, 3, 64, 64)
    features, logits = SmallResNet(7)(preprocess(images))
    assert (features.shape, logits.shape) == ((2, 128), (2, 7))


def test_augmentation_shifts_and_mirrors_whole_images() -> None:
    images = torch.arange(16 * 16, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(64, 3, 16, 16)
    moved = augment(images, torch.Generator().manual_seed(0), flip=True)
    assert moved.shape == images.shape
    assert len({bytes(picture.numpy().tobytes()) for picture in moved}) > 10
    # Values run by 1 along a row, or by -1 where mirrored, away from the reflected edges.
    change = moved[:, 0, 8, 4:12].int().diff(dim=1)
    assert set(change.unique().tolist()) <= {-1, 1, 255, -255}
    assert {1, -1} <= set(change.unique().tolist())


@pytest.mark.parametrize("name", ["weights.safetensors", "card.json"])
def test_damaged_classifier_is_refused(tmp_path: Path, name: str) -> None:
    obtain_classifier(tmp_path, {}, data, 2, recipe=Recipe(cycles=(1,), width=4))
    home = next(tmp_path.iterdir())
    content = (home / name).read_bytes()
    (home / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="delete it to train it again"):
        load_classifier(home)


def test_interrupted_training_leaves_nothing(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        obtain_classifier(tmp_path, {}, data, 2, recipe=RECIPE, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_classifier_refuses_bad_input() -> None:
    train, held_out = data()
    with pytest.raises(InputError, match="at least 2 classes"):
        train_classifier(train, held_out, 1, RECIPE)
    with pytest.raises(InputError, match="do not fit 2 classes"):
        train_classifier(LabelledImages(train.images_N3HW, train.labels_N + 1), held_out, 2, RECIPE)
    with pytest.raises(InputError, match="uint8"):
        preprocess(torch.zeros(1, 3, 16, 16))
