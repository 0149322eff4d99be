"""SigLIP 2 (Tschannen et al. 2025): So400m/16 at 256 px, as in FDr6 (arXiv 2604.28190), pooled by its attention head."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from nvgbench.extractors.registry import ExtractorEntry
from nvgbench.extractors.vision import WEIGHTS, VisionExtractor

_SIDE = 256


class Siglip2Extractor(VisionExtractor):
    """See `nvgbench.extractors.vision.VisionExtractor`; 1152 features."""

    name = "siglip2"
    repository = "google/siglip2-so400m-patch16-256"
    model = "SiglipVisionModel"
    mean = (0.5, 0.5, 0.5)
    std = (0.5, 0.5, 0.5)
    preprocessing = "bicubic to 256 px with antialiasing, mean and deviation 0.5; attention pooling"

    def resize(self, images_B3HW: Tensor) -> Tensor:
        """The filter's overshoot is kept."""
        return F.interpolate(images_B3HW.float() / 255, size=(_SIDE, _SIDE), mode="bicubic", antialias=True)

    def read(self, output: Any) -> Tensor:
        return output.pooler_output


EXTRACTOR = ExtractorEntry(
    make=lambda request: Siglip2Extractor(request.weights, request.device),
    summary="SigLIP 2 So400m/16 at 256 px (with the extra nvgbench[vision])",
    weights=WEIGHTS,
)
