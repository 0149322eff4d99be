"""DINOv2 (Oquab et al. 2023) as Stein et al. (2023) use it for FD: ViT-L/14, class token, 224 px by PIL's bicubic filter."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nvgbench.extractors.registry import ExtractorEntry
from nvgbench.extractors.vision import WEIGHTS, VisionExtractor

_SIDE = 224


class Dinov2Extractor(VisionExtractor):
    """See `nvgbench.extractors.vision.VisionExtractor`; 1024 features."""

    name = "dinov2"
    repository = "facebook/dinov2-large"
    model = "Dinov2Model"
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    preprocessing = "PIL bicubic to 224 px, ImageNet mean and deviation; class token"

    def resize(self, images_B3HW: Tensor) -> Tensor:
        """Rounded to 8 bits after the resize, as PIL does."""
        resized = [
            np.asarray(Image.fromarray(image).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
            for image in images_B3HW.permute(0, 2, 3, 1).numpy()
        ]
        return torch.from_numpy(np.stack(resized)).permute(0, 3, 1, 2).float() / 255

    def read(self, output: Any) -> Tensor:
        return output.last_hidden_state[:, 0]


EXTRACTOR = ExtractorEntry(
    make=lambda request: Dinov2Extractor(request.weights, request.device),
    summary="DINOv2 ViT-L/14 (with the extra nvgbench[vision])",
    weights=WEIGHTS,
)
