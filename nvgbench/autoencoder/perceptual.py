"""Distances of images in features of a frozen network, as training losses: LPIPS (Zhang et al. 2018) and EfficientNet's."""

from __future__ import annotations

import re
import warnings
from typing import Literal

from torch import nn

from nvgbench.autoencoder.stage_distance import StageDistance
from nvgbench.errors import InputError
from nvgbench.weights.downloads import Pretrained
from nvgbench.weights.efficientnet import EfficientNetLite

_WITHOUT = "tokenizer.losses.perceptual=none"
VGG = Pretrained(
    url="https://download.pytorch.org/models/vgg16-397923af.pth",
    sha256="397923af",
    what="the LPIPS loss",
    without=_WITHOUT,
)


def load_perceptual(mode: Literal["lpips", "efficientnet-lite0", "auto", "none"]) -> tuple[nn.Module | None, str]:
    """The frozen network, called with two batches of images in [-1, 1], and a line about it for the record.

    Raises:
        InputError: ``lpips`` is required but the VGG weights are not available, or ``efficientnet-lite0`` without its package.
    """
    if mode == "none":
        return None, "perceptual loss: none"
    if mode == "efficientnet-lite0":
        network = EfficientNetLite(mode, "the perceptual loss", _WITHOUT)
        return StageDistance(network), f"perceptual loss: stages of {mode} (SHA-256 {network.sha256[:16]}…)"
    try:
        return _load_lpips()
    except InputError as error:
        if mode == "lpips":
            raise
        return None, f"perceptual loss: none, because {error}"


def _load_lpips() -> tuple[nn.Module, str]:
    import lpips

    file = VGG.fetch()
    with warnings.catch_warnings():
        # The package uses an interface that torchvision has deprecated.
        warnings.simplefilter("ignore")
        network = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    # The package slices VGG's features but keeps their numbers: slice2.7.weight is features.7.weight.
    digest = VGG.load(network.net, file, lambda key: re.sub(r"^slice\d", "features", key))
    return network.eval().requires_grad_(False), f"perceptual loss: LPIPS (VGG-16, SHA-256 {digest}…)"
