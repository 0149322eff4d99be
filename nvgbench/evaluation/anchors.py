"""Reference points for reading scores: real images (the floor), class means, and untrained models.

Shape letters: B batch, N images, K classes, H and W pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nvgbench.config.schema import RunConfig
from nvgbench.data.image_set import ImageSet, from_dataset
from nvgbench.data.selection import random_indices
from nvgbench.data.source import ImageDataset
from nvgbench.errors import InputError
from nvgbench.interfaces import ImageGenerator
from nvgbench.runs.models import untrained_generator
from nvgbench.types import ModelSpec, SampleRequest, SampleResult


@dataclass
class ClassMeans:
    """A generator that returns the mean training image of the requested class (``means_K3HW``, uint8)."""

    means_K3HW: Tensor
    spec: ModelSpec

    def generate(self, request: SampleRequest) -> SampleResult:
        """The mean image of each label, whatever the seed.

        Raises:
            InputError: a label out of range, or any settings, as there are none.
        """
        if request.settings:
            raise InputError(f"class means have no sampling settings, got {', '.join(request.settings)}")
        labels = request.labels_B.cpu()
        if labels.min() < 0 or labels.max() >= len(self.means_K3HW):
            raise InputError(f"class {int(labels.max())} is out of range; expected 0 to {len(self.means_K3HW) - 1}")
        return SampleResult(self.means_K3HW[labels])


def class_means(dataset: ImageDataset, batch_size: int = 500) -> ClassMeans:
    """The mean image of every class of a training set (of all images if it has none); grey for a class without images."""
    classes, side = max(len(dataset.classes), 1), dataset.image_size
    sums = torch.zeros(classes, 3, side, side, dtype=torch.float64)
    for start in range(0, len(dataset), batch_size):
        indices = np.arange(start, min(start + batch_size, len(dataset)))
        sums.index_add_(0, torch.from_numpy(dataset.labels[indices]), dataset.images(indices).double())
    counts = torch.bincount(torch.from_numpy(dataset.labels), minlength=classes)[:, None, None, None]
    means = torch.where(counts > 0, sums / counts.clamp(min=1), 127.5).round().to(torch.uint8)
    spec = ModelSpec(
        name="class means",
        family="anchor",
        image_size=side,
        num_classes=classes,
        provenance={"dataset": dataset.name, "fingerprint": dataset.fingerprint},
    )
    return ClassMeans(means, spec)


def real_images(dataset: ImageDataset, n: int, seed: int = 0) -> ImageSet:
    """``n`` training images (all if there are fewer) as samples: their score against held-out images is the floor."""
    return from_dataset(dataset, random_indices(len(dataset), n, seed))


def untrained(config: RunConfig, num_classes: int, device: torch.device | str, seed: int = 0) -> ImageGenerator:
    """The preset's model before training."""
    return untrained_generator(config, num_classes, seed, device)
