"""A perceptual distance over the stages of EfficientNet-Lite0, as a training loss that needs no download.

LPIPS without its learned weights (Zhang et al. 2018, section 3): features of unit length at every position, squared distance,
mean over positions and stages. Shape letters: B batch, C channels, H and W pixels, h and w of a feature map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nvgbench.weights.efficientnet import EfficientNetLite


class StageDistance(nn.Module):
    """Two batches of images in [-1, 1] ``[B, 3, H, W]`` to a distance ``[B]`` from 0 to 4, computed at their own size.

    Args:
        network: its feature maps (strides 2 to 32, up to 16 for images of 16 px) are compared.
    """

    def __init__(self, network: EfficientNetLite) -> None:
        super().__init__()
        self.network = network

    def forward(self, fake_B3HW: Tensor, real_B3HW: Tensor) -> Tensor:
        with torch.no_grad():
            real = self._unit(real_B3HW)
        distances = [
            (x_BChw - y_BChw).square().sum(1).mean((1, 2)) for x_BChw, y_BChw in zip(self._unit(fake_B3HW), real, strict=True)
        ]
        return torch.stack(distances).mean(0)

    def _unit(self, images_B3HW: Tensor) -> list[Tensor]:
        """Feature maps with unit length at every position."""
        return [nn.functional.normalize(map_BChw, dim=1) for map_BChw in self.network.stages((images_B3HW + 1) * 127.5)]
