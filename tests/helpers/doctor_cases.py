"""Small pictures of six classes, and a cheap extractor that knows them."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
import torch.nn.functional as F

CLASSES = 6
SIDE = 32
_PALETTE = torch.tensor([[200, 120, 60], [60, 150, 70], [90, 140, 220], [150, 60, 60], [220, 210, 150], [70, 60, 110.0]])


def pictures(n: int, seed: int) -> tuple[torch.Tensor, np.ndarray]:
    """Float images ``[n, 3, 32, 32]`` strictly between 0 and 255, as a bounded output gives them, and their classes.

    A class is a colour with texture of its own strength and direction; all are equally frequent.
    """
    rng = torch.Generator().manual_seed(seed)
    labels = (torch.arange(n) % CLASSES)[torch.randperm(n, generator=rng)]
    y, x = torch.fft.fftfreq(SIDE)[:, None], torch.fft.fftfreq(SIDE)[None]
    angle = (torch.arange(CLASSES) * torch.pi / CLASSES)[labels][:, None, None]
    squared = (x * angle.cos() + y * angle.sin()) ** 2 + 0.3 * (y * angle.cos() - x * angle.sin()) ** 2
    spectrum = torch.fft.fft2(torch.randn(n, 3, SIDE, SIDE, generator=rng)) / (squared.sqrt() + 0.05)[:, None]
    texture = torch.fft.ifft2(spectrum).real
    texture = texture / texture.std() * (1 + 0.2 * labels)[:, None, None, None]
    colour = torch.logit(_PALETTE[labels] / 255)[:, :, None, None] + 0.4 * torch.randn(n, 3, 1, 1, generator=rng)
    return 255 * torch.sigmoid(colour + texture), labels.numpy()


def rounded(images: torch.Tensor) -> torch.Tensor:
    return images.round().to(torch.uint8)


class Colours:
    """Moments of random filters at two scales: 48 features in no time, and logits by least squares on 600 pictures."""

    name, provenance = "colours", {"weights_sha256": "0" * 64}
    fingerprint = hashlib.sha256(b"colours/1").hexdigest()

    def __init__(self) -> None:
        rng = torch.Generator().manual_seed(7)
        self.filters = [torch.randn(8, 3, 3, 3, generator=rng) / 5, torch.randn(16, 8, 3, 3, generator=rng) / 8]
        images, labels = pictures(600, 99)
        features = self._features(rounded(images))
        known = 8 * F.one_hot(torch.from_numpy(labels), CLASSES).float() - 4
        self.head = torch.linalg.lstsq(_with_one(features), known).solution

    def __call__(self, images_B3HW: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self._features(images_B3HW)
        return features, _with_one(features) @ self.head

    def _features(self, images_B3HW: torch.Tensor) -> torch.Tensor:
        found, maps = [], images_B3HW.float() / 127.5 - 1
        for filters in self.filters:
            maps = F.conv2d(maps, filters, stride=2).relu()
            found += [maps.mean(dim=(2, 3)), (maps**2).mean(dim=(2, 3))]
        return 10 * torch.cat(found, dim=1)


def _with_one(features: torch.Tensor) -> torch.Tensor:
    return torch.cat([features, torch.ones(len(features), 1)], dim=1)


def make_colours(request: object) -> Colours:
    """The extractor as the registry makes it."""
    return Colours()
