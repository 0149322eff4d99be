"""MAE (He et al. 2022) as in FDr6 (arXiv 2604.28190): the encoder of ViT-L/16 on all patches, class token.

Shape letters: B batch, L patches.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.extractors.registry import ExtractorEntry
from nvgbench.extractors.vision import WEIGHTS, VisionExtractor
from nvgbench.files import StrPath

_SIDE = 224


class MaeExtractor(VisionExtractor):
    """See `nvgbench.extractors.vision.VisionExtractor`; 1024 features."""

    name = "mae"
    repository = "facebook/vit-mae-large"
    model = "ViTMAEModel"
    mean = (0.485, 0.456, 0.406)
    std = (0.229, 0.224, 0.225)
    preprocessing = "bicubic to 224 px with antialiasing, ImageNet mean and deviation; class token, no patch masked"

    def __init__(self, weights: StrPath | None = None, device: torch.device | str = "cpu") -> None:
        super().__init__(weights, device)
        self.network = _Unmasked(self.network)

    def resize(self, images_B3HW: Tensor) -> Tensor:
        """The filter's overshoot is kept."""
        return F.interpolate(images_B3HW.float() / 255, size=(_SIDE, _SIDE), mode="bicubic", antialias=True)

    def read(self, output: Any) -> Tensor:
        return output.last_hidden_state[:, 0]


class _Unmasked(nn.Module):
    """The encoder on all patches in their own order; by default it drops three quarters and shuffles the rest."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        network.embeddings.config.mask_ratio = 0.0
        self.network = network
        self.patches = int(network.embeddings.num_patches)

    def forward(self, pixel_values: Tensor) -> Any:
        order_BL = torch.arange(self.patches, dtype=torch.float32, device=pixel_values.device).expand(len(pixel_values), -1)
        return self.network(pixel_values=pixel_values, noise=order_BL)


EXTRACTOR = ExtractorEntry(
    make=lambda request: MaeExtractor(request.weights, request.device),
    summary="MAE ViT-L/16 (with the extra nvgbench[vision])",
    weights=WEIGHTS,
)
