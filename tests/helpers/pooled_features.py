"""A feature extractor that needs no training."""

from __future__ import annotations

import torch


class Pooled:
    """Features without a network: mean colours of the four quarters."""

    name, fingerprint, provenance = "pooled", "f" * 64, {"weights_sha256": "0" * 64}

    def __call__(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        small = torch.nn.functional.adaptive_avg_pool2d(images.float() / 255, 2).flatten(1)
        return small, small[:, :0]
