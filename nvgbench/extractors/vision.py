"""Base of the extractors that run a published network of transformers. Shape letters: B batch, D features."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from nvgbench.files import StrPath, file_sha256
from nvgbench.weights.hub_network import CONFIG_FILE, WEIGHTS_FILES, HubNetwork

WEIGHTS = f"a folder with {CONFIG_FILE} and {' or '.join(WEIGHTS_FILES)}"
_CODE_VERSION = 1


class VisionExtractor:
    """A `nvgbench.interfaces.FeatureExtractor` without logits; each subclass is one network with its preprocessing.

    Args:
        weights: folder with ``config.json`` and ``model.safetensors`` (or ``pytorch_model.bin``); if not given, the cache of
            the Hugging Face Hub, then the Hub.
        device: where the network runs.

    Attributes:
        name: of the extractor.
        repository: the published weights on the Hub.
        model: name of the network's class in transformers.
        mean, std: of the normalisation, for images from 0 to 1.
        preprocessing: one line for the record.
        fingerprint: SHA-256 of the name, the SHA-256 of the weights and the version of this code.
        provenance: repository or ``given by hand``, SHA-256 of the weights, preprocessing.

    Raises:
        InputError: transformers is not installed, the download failed, or the folder does not hold the weights.
    """

    name: str
    repository: ClassVar[str]
    model: ClassVar[str]
    mean: ClassVar[tuple[float, float, float]]
    std: ClassVar[tuple[float, float, float]]
    preprocessing: ClassVar[str]

    def __init__(self, weights: StrPath | None = None, device: torch.device | str = "cpu") -> None:
        published = HubNetwork(
            repository=self.repository,
            model=self.model,
            what=f"the extractor {self.name}",
            argument="extractor_weights",
        )
        file = published.find(weights)
        digest = file_sha256(file)
        self.device = device
        self.network = published.load(file).to(device)
        self.fingerprint = hashlib.sha256(f"{self.name}/{_CODE_VERSION}/{digest}".encode()).hexdigest()
        self.provenance: Mapping[str, Any] = {
            "extractor": self.name,
            "network": f"transformers {self.model}",
            "weights": self.repository if weights is None else "given by hand",
            "weights_sha256": digest,
            "preprocessing": self.preprocessing,
        }

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images to ``(features [B, D], logits [B, 0])``, float32 on the CPU."""
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (self.mean, self.std))
        pixels = ((self.resize(images_B3HW.cpu()) - mean) / std).to(self.device)
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            features = self.read(self.network(pixel_values=pixels))
        return features.float().cpu(), torch.empty(len(features), 0)

    def resize(self, images_B3HW: Tensor) -> Tensor:
        """uint8 images of any size to the network's size, float32 with 0 to 1 for 0 to 255."""
        raise NotImplementedError

    def read(self, output: Any) -> Tensor:
        """The features ``[B, D]`` in the network's output."""
        raise NotImplementedError
