from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from nvgbench.data.images import to_float
from nvgbench.data.shapes import CLASSES, ShapesDataset


def _open(count: int = 40, *, split="train", size: int = 32, seed: int = 0) -> ShapesDataset:
    return ShapesDataset(image_size=size, split=split, count=count, seed=seed)


def test_an_image_depends_on_seed_split_and_index_alone():
    small, large = _open(10), _open(40)
    reversed_order = large.images(np.arange(39, -1, -1)).flip(0)
    assert torch.equal(small.images(np.arange(10)), reversed_order[:10])
    assert not torch.equal(small[3].image, _open(10, seed=1)[3].image)


def test_splits_share_no_image():
    pictures = [set(map(bytes, _open(200, split=split).images(np.arange(200)).numpy())) for split in ("train", "eval")]
    assert len(pictures[0]) == len(pictures[1]) == 200
    assert not pictures[0] & pictures[1]


def test_fingerprint_follows_everything_that_changes_the_images():
    variants = [_open(), _open(41), _open(split="eval"), _open(size=64), _open(seed=1)]
    assert len({dataset.fingerprint for dataset in variants}) == len(variants)
    assert _open().fingerprint == _open().fingerprint


def test_classes_take_turns():
    assert len(CLASSES) == len(set(CLASSES)) == 10
    assert np.bincount(_open(40).labels).tolist() == [4] * 10


def test_masks_nest():
    for sample in _open(40, size=64):
        objects, parts, semantic = (sample.masks[name] for name in ("object", "part", "semantic"))
        count = objects.max()
        assert count == 1 if CLASSES[sample.label].startswith("one") else count in (3, 4)
        assert set(np.unique(objects)) == set(range(count + 1))
        assert np.array_equal(semantic, objects > 0)
        assert np.array_equal((parts + 1) // 2, objects), "parts 2i - 1 and 2i make object i"
        assert set(np.unique(parts)) == set(range(2 * count + 1))


def test_masks_tell_where_the_colours_are():
    """Inside a part the colour is nearly that part's mean; between part, body and background the means differ."""
    for sample in _open(40, size=128):
        image = sample.image.numpy().transpose(1, 2, 0).astype(float)
        parts = sample.masks["part"]
        means = [np.median(image[parts == part], axis=0) for part in range(parts.max() + 1)]
        for body in range(1, len(means), 2):
            assert np.abs(means[body] - means[0]).max() > 40, "object against background"
            assert np.abs(means[body] - means[body + 1]).max() > 40, "body against core"


def test_the_same_scene_is_drawn_at_every_size():
    for small, large in zip(_open(20, size=32), _open(20, size=128), strict=True):
        coarse = large.image.float().unfold(1, 4, 4).unfold(2, 4, 4).mean((-1, -2))
        # Mean over pixels of the absolute difference: edges differ slightly, since coverage is approximated pixel by pixel.
        assert (coarse - small.image.float()).abs().mean() < 3


def test_edges_are_smooth():
    """Across a straight edge there are colours between those of the two sides."""
    sample = _open(10, size=256)[2]
    mask = torch.from_numpy(sample.masks["object"])
    image = sample.image.float().mean(0)
    crossing = mask[:, 1:] != mask[:, :-1]
    step = (image[:, 1:] - image[:, :-1]).abs()[crossing].mean()
    contrast = (image[mask == 1].median() - image[mask == 0].median()).abs()
    assert step < 0.8 * contrast


def test_a_small_network_learns_the_classes():
    torch.manual_seed(0)
    train, held = _open(2000), _open(500, split="eval")
    x, y = to_float(train.images(np.arange(2000))), torch.from_numpy(train.labels)
    stages = [layer for a, b in ((3, 16), (16, 32), (32, 64)) for layer in _stage(a, b)]
    model = nn.Sequential(*stages, nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(256, 10))
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(8):
        for rows in torch.randperm(2000).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    right = model.eval()(to_float(held.images(np.arange(500)))).argmax(1) == torch.from_numpy(held.labels)
    assert right.float().mean() > 0.95


def _stage(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(channels_in, channels_out, 3, 2, 1), nn.BatchNorm2d(channels_out), nn.ReLU()
