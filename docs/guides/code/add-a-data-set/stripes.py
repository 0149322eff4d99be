"""A data set of striped images in two classes."""

from __future__ import annotations

import hashlib

import numpy as np

from nvgbench.data.catalog import SourceInfo
from nvgbench.data.dataset import ImageDataset

COUNTS = {"train": 2000, "eval": 400}


class Stripes(ImageDataset):
    """Images are drawn when they are read; a set of files would open the file here."""

    def __init__(self, request):
        count = min(request.limit or COUNTS[request.split], COUNTS[request.split])
        super().__init__(
            name=f"stripes {request.split}",
            classes=("horizontal", "vertical"),
            labels=np.arange(count, dtype=np.int64) % 2,
            image_size=request.image_size,
            # Whatever determines the images; scores against other images are not compared.
            fingerprint=hashlib.sha256(f"stripes 1 {request.split} {count} {request.image_size}".encode()).hexdigest(),
            augment=request.augment,
        )
        self.split = request.split

    def read(self, index):
        rng = np.random.default_rng([index, self.split == "eval"])
        dark, light = np.sort(rng.integers(0, 256, (2, 3)), axis=0).astype(np.uint8)
        is_light = (np.arange(self.image_size) // rng.integers(2, 6)) % 2 == 1
        lines = np.where(is_light[:, None, None], light, dark).repeat(self.image_size, axis=1)
        return lines if self.labels[index] == 0 else lines.transpose(1, 0, 2)


def open_stripes(location, request):
    """``location`` is what stands behind the colon: PATH in ``stripes:PATH``."""
    return Stripes(request)


SOURCE = SourceInfo(
    form="stripes",
    opener=open_stripes,
    num_classes=2,
    train_images=COUNTS["train"],
    eval_images=COUNTS["eval"],
    needs="nothing",
    summary="striped images",
)
