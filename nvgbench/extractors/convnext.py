"""ConvNeXt V2 (Woo et al. 2023) as in FDr6 (arXiv 2604.28190): base, fine-tuned on ImageNet, mean of the last map."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from nvgbench.extractors.registry import ExtractorEntry
from nvgbench.extractors.vision import WEIGHTS, VisionExtractor

_SIDE = 224


class ConvNextExtractor(VisionExtractor):
    """See `nvgbench.extractors.vision.VisionExtractor`; 1024 features."""

    name = "convnext"
    repository = "facebook/convnextv2-base-22k-224"
    model = "ConvNextV2Model"
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    preprocessing = "bicubic to 224 px with antialiasing, ImageNet mean and deviation; mean of the last feature map"

    def resize(self, images_B3HW: Tensor) -> Tensor:
        """The filter's overshoot is kept."""
        return F.interpolate(images_B3HW.float() / 255, size=(_SIDE, _SIDE), mode="bicubic", antialias=True)

    def read(self, output: Any) -> Tensor:
        return output.last_hidden_state.mean(dim=(2, 3))


EXTRACTOR = ExtractorEntry(
    make=lambda request: ConvNextExtractor(request.weights, request.device),
    summary="ConvNeXt V2 base (with the extra nvgbench[vision])",
    weights=WEIGHTS,
)
