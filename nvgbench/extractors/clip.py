"""CLIP (Radford et al. 2021) as Jayasumana et al. (2024) use it for CMMD.

ViT-L/14 at 336 px, projected image embedding of length 1, bicubic resize without antialiasing.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from nvgbench.extractors.registry import ExtractorEntry
from nvgbench.extractors.vision import WEIGHTS, VisionExtractor

_SIDE = 336


class ClipExtractor(VisionExtractor):
    """See `nvgbench.extractors.vision.VisionExtractor`; 768 features."""

    name = "clip"
    repository = "openai/clip-vit-large-patch14-336"
    model = "CLIPVisionModelWithProjection"
    mean = (0.48145466, 0.4578275, 0.40821073)
    std = (0.26862954, 0.26130258, 0.27577711)
    preprocessing = "bicubic to 336 px without antialiasing, CLIP's mean and deviation; projected embedding, length 1"

    def resize(self, images_B3HW: Tensor) -> Tensor:
        """The filter's overshoot is kept."""
        return F.interpolate(images_B3HW.float() / 255, size=(_SIDE, _SIDE), mode="bicubic")

    def read(self, output: Any) -> Tensor:
        return F.normalize(output.image_embeds, dim=1)


EXTRACTOR = ExtractorEntry(
    make=lambda request: ClipExtractor(request.weights, request.device),
    summary="CLIP ViT-L/14 at 336 px (with the extra nvgbench[vision])",
    weights=WEIGHTS,
)
