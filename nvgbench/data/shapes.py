"""``shapes``: procedural images of simple objects with exact masks; needs no download and no disk."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np

from nvgbench.data import catalog
from nvgbench.data.dataset import Augment, DataRequest, ImageDataset, Split
from nvgbench.data.scene import ARRANGEMENTS, KINDS, Scene, draw_scene, render
from nvgbench.errors import InputError

# Increase when the images change: the fingerprint and every cache keyed by it depend on it.
VERSION = 1
_PLURALS = {"circle": "circles", "square": "squares", "triangle": "triangles", "star": "stars", "cross": "crosses"}
CLASSES = tuple(name for kind in KINDS for name in (f"one {kind}", f"several {_PLURALS[kind]}"))


class ShapesDataset(ImageDataset):
    """Image i is determined by (seed, split, i); its class is i mod 10. A scene can be rendered at any size."""

    def __init__(self, *, image_size: int, split: Split, count: int, seed: int, augment: Augment = "none") -> None:
        self.seed = seed % 2**64
        self.split = split
        identity = f"shapes/{VERSION} seed={self.seed} split={split} count={count} size={image_size}"
        super().__init__(
            name=f"shapes ({split})",
            classes=CLASSES,
            labels=np.arange(count, dtype=np.int64) % len(CLASSES),
            image_size=image_size,
            fingerprint=hashlib.sha256(identity.encode()).hexdigest(),
            augment=augment,
        )

    def read(self, index: int) -> np.ndarray:
        return render(self.scene(index), self.image_size)[0]

    def masks(self, index: int) -> Mapping[str, np.ndarray]:
        return render(self.scene(index), self.image_size)[1]

    def scene(self, index: int) -> Scene:
        """The parameters of image ``index``."""
        kind, arrangement = divmod(index % len(CLASSES), len(ARRANGEMENTS))
        stream = 0 if self.split == "train" else 1
        return draw_scene(KINDS[kind], ARRANGEMENTS[arrangement], np.random.default_rng([self.seed, stream, index]))


def open_shapes(location: str, request: DataRequest) -> ShapesDataset:
    """As many images as the request's limit, else the numbers of the catalog.

    Raises:
        InputError: a path was given.
    """
    if location:
        raise InputError(f"'shapes:{location}': 'shapes' is drawn and takes no path; for your own images use imagefolder:PATH")
    count = request.limit or (catalog.SHAPES.train_images if request.split == "train" else catalog.SHAPES.eval_images)
    assert count is not None
    return ShapesDataset(
        image_size=request.image_size, split=request.split, count=count, seed=request.seed, augment=request.augment
    )
