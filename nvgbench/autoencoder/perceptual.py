"""LPIPS, the distance of images in features of VGG-16 (Zhang et al., 2018), as a training loss."""

from __future__ import annotations

import re
import warnings
from typing import Literal

from torch import nn

from nvgbench.errors import InputError
from nvgbench.weights.downloads import Pretrained

VGG = Pretrained(
    url="https://download.pytorch.org/models/vgg16-397923af.pth",
    sha256="397923af",
    what="the LPIPS loss",
    without="tokenizer.losses.perceptual=none",
)


def load_perceptual(mode: Literal["lpips", "auto", "none"]) -> tuple[nn.Module | None, str]:
    """The frozen LPIPS network, called with two batches of images in [-1, 1], and a line about it for the record.

    Raises:
        InputError: ``lpips`` is required but the VGG weights are not available.
    """
    if mode == "none":
        return None, "perceptual loss: none"
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
