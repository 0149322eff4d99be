"""DINOv2 and CLIP as feature extractors, through the optional package transformers.

DINOv2 (Oquab et al. 2023) for ``FD[dinov2]`` as Stein et al. (2023) take it: ViT-L/14, class token, 224 px by PIL's bicubic
filter. CLIP (Radford et al. 2021) for CMMD as Jayasumana et al. (2024) take it: ViT-L/14 at 336 px, projected image embedding
of length 1, bicubic without antialiasing. Shape letters: B batch, D features.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nvgbench.weights.hub_network import HubNetwork

_CODE_VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """How a network is fed and read.

    Attributes:
        repository: the published weights on the Hugging Face Hub.
        side: images are resized to so many pixels.
        mean, std: of the normalisation, images from 0 to 1.
        model: name of the class in transformers.
        preprocessing: one line for the record.
    """

    repository: str
    side: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    model: str
    preprocessing: str


RECIPES = {
    "dinov2": Recipe(
        "facebook/dinov2-large", 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "Dinov2Model",
        "PIL bicubic to 224 px, ImageNet mean and deviation; class token",
    ),
    "clip": Recipe(
        "openai/clip-vit-large-patch14-336", 336, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711),
        "CLIPVisionModelWithProjection",
        "bicubic to 336 px without antialiasing, CLIP's mean and deviation; projected embedding, length 1",
    ),
}  # fmt: skip


class VisionExtractor:
    """DINOv2 or CLIP as a `nvgbench.interfaces.FeatureExtractor`; neither has logits.

    Args:
        name: a key of `RECIPES`.
        weights: folder with ``config.json`` and ``model.safetensors`` (or ``pytorch_model.bin``); where not given, the Hub's
            cache and then the Hub.
        device: where the network runs.

    Attributes:
        name: as given.
        fingerprint: SHA-256 of the name, the weights' own SHA-256 and the version of this code.
        provenance: repository or ``given by hand``, SHA-256 of the weights, preprocessing.

    Raises:
        InputError: transformers is missing, no weights to be had, or a folder that does not hold them.
    """

    def __init__(self, name: str, weights: Path | None = None, device: torch.device | str = "cpu") -> None:
        recipe = RECIPES[name]
        published = HubNetwork(
            repository=recipe.repository, model=recipe.model, what=f"the extractor {name}", argument="extractor_weights"
        )
        file = published.find(weights)
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        self.name = name
        self.device = device
        self.network = published.load(file).to(device)
        self._recipe = recipe
        self._prepare: Callable[[Tensor, int], Tensor] = _resize_pil if name == "dinov2" else _resize_plain
        self.fingerprint = hashlib.sha256(f"{name}/{_CODE_VERSION}/{digest}".encode()).hexdigest()
        self.provenance: Mapping[str, Any] = {
            "extractor": name,
            "network": f"transformers {recipe.model}",
            "weights": recipe.repository if weights is None else "given by hand",
            "weights_sha256": digest,
            "preprocessing": recipe.preprocessing,
        }

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 images to ``(features [B, D], logits [B, 0])``, float32 on the CPU."""
        mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (self._recipe.mean, self._recipe.std))
        pixels = ((self._prepare(images_B3HW.cpu(), self._recipe.side) - mean) / std).to(self.device)
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            if self.name == "dinov2":
                features = self.network(pixel_values=pixels).last_hidden_state[:, 0]
            else:
                features = F.normalize(self.network(pixel_values=pixels).image_embeds, dim=1)
        return features.float().cpu(), torch.empty(len(features), 0)


def _resize_pil(images_B3HW: Tensor, side: int) -> Tensor:
    """uint8 to float32 from 0 to 1, rounded to 8 bits after the resize as PIL does."""
    resized = [
        np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
        for image in images_B3HW.permute(0, 2, 3, 1).numpy()
    ]
    return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255


def _resize_plain(images_B3HW: Tensor, side: int) -> Tensor:
    """uint8 to float32 around 0 to 1; bicubic overshoot is kept."""
    return F.interpolate(images_B3HW.float() / 255, size=(side, side), mode="bicubic")
