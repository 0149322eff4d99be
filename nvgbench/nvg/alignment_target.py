"""The target of the feature alignment: patch features of a frozen DINOv2 (Oquab et al. 2023), or a stage of EfficientNet-Lite0.

Shape letters: B batch, L positions of the latent grid, F channels of the features (768 or 112), H and W pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.files import file_sha256
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.weights.efficientnet import EfficientNetLite, find_weights
from nvgbench.weights.hub_network import HubNetwork

_WITHOUT = "model.alignment=none"
_EFFICIENTNET = "efficientnet-lite0"
_STRIDE = 16
"""Pixels per position of the latent grid, for the stage of EfficientNet-Lite0."""
DINOV2 = HubNetwork(
    repository="facebook/dinov2-base",
    model="Dinov2Model",
    what="the feature alignment",
    argument="model.alignment_folder",
    without=_WITHOUT,
)
# ImageNet's statistics, for images in [-1, 1].
_MEAN = [2 * mean - 1 for mean in (0.485, 0.456, 0.406)]
_STD = [2 * deviation for deviation in (0.229, 0.224, 0.225)]


class PatchFeatures:
    """One feature vector per position: the patch tokens of a DINOv2 after its last layer norm.

    Images are resized to one patch per position (224 px for 16 x 16 and patches of 14 px), bicubic without antialiasing as in
    REPA's code, and normalised with ImageNet's mean and standard deviation.

    Args:
        network: a frozen ``Dinov2Model`` of transformers.
        grid: height and width of the latent grid.

    Attributes:
        features: F.
    """

    def __init__(self, network: nn.Module, grid: tuple[int, int]) -> None:
        # transformers sets attributes at run time, which type checkers do not see.
        config: Any = network.config
        self.features = int(config.hidden_size)
        self._network = network
        self._positions = grid[0] * grid[1]
        self._pixels = [side * int(config.patch_size) for side in grid]

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor) -> Tensor:
        """float32 images in [-1, 1] of any size to float32 features ``[B, L, F]``, on the images' device."""
        mean, std = (images_B3HW.new_tensor(values)[:, None, None] for values in (_MEAN, _STD))
        resized_B3HW = F.interpolate(images_B3HW, size=self._pixels, mode="bicubic")
        network = self._network.to(images_B3HW.device)
        # The class token comes first.
        return network(pixel_values=(resized_B3HW - mean) / std).last_hidden_state[:, -self._positions :].float()


class StageFeatures:
    """One feature vector per position: the feature map of EfficientNet-Lite0 at a sixteenth of the resolution.

    Images are resized to 16 pixels per position, bicubic without antialiasing as for DINOv2.

    Args:
        network: the frozen network.
        grid: height and width of the latent grid.

    Attributes:
        features: F, 112.
    """

    features = 112

    def __init__(self, network: EfficientNetLite, grid: tuple[int, int]) -> None:
        self._network = network
        self._stage = network.strides.index(_STRIDE)
        self._pixels = [side * _STRIDE for side in grid]

    @torch.no_grad()
    def __call__(self, images_B3HW: Tensor) -> Tensor:
        """float32 images in [-1, 1] of any size to float32 features ``[B, L, F]``, on the images' device."""
        resized_B3HW = F.interpolate(images_B3HW, size=self._pixels, mode="bicubic")
        network = self._network.to(images_B3HW.device)
        return network.stages((resized_B3HW + 1) * 127.5)[self._stage].flatten(2).transpose(1, 2)


def find_target(config: RunConfig) -> tuple[Path | None, str]:
    """The file with the target network's weights, or None and the reason (empty if no alignment is configured).

    Raises:
        InputError: the alignment is required but its weights or its images (``train.cache_tokens``) are not available.
    """
    model: NvgModelConfig = config.model
    if model.alignment == "none" or model.alignment_weight == 0:
        return None, ""
    try:
        if model.alignment_block > model.depth:
            raise InputError(
                f"model.alignment_block = {model.alignment_block} is beyond the {model.depth} blocks of model.depth; "
                f"lower it, or go without: `{_WITHOUT}`"
            )
        file = _find_file(model)
    except InputError as error:
        return None, _fall_back(model, error)
    if config.train.cache_tokens:
        raise InputError(
            "the feature alignment needs the training images, but train.cache_tokens = true keeps only their tokens; "
            f"use `train.cache_tokens=false`, or go without: `{_WITHOUT}`"
        )
    return file, ""


def load_target(config: RunConfig, grid: tuple[int, int]) -> tuple[PatchFeatures | StageFeatures | None, tuple[str, ...]]:
    """The target of the alignment, if any, and a line for the record if one is configured.

    Raises:
        InputError: see `find_target`; or the required weights are damaged.
    """
    model: NvgModelConfig = config.model
    file, note = find_target(config)
    if file is None:
        return None, (note,) if note else ()
    target: PatchFeatures | StageFeatures
    try:
        if model.alignment == _EFFICIENTNET:
            target = StageFeatures(EfficientNetLite(_EFFICIENTNET, DINOV2.what, _WITHOUT), grid)
        else:
            target = PatchFeatures(DINOV2.load(file), grid)
    except InputError as error:
        return None, (_fall_back(model, error),)
    network = "DINOv2" if isinstance(target, PatchFeatures) else _EFFICIENTNET
    return target, (
        f"feature alignment: {network} of width {target.features} (SHA-256 {file_sha256(file)[:16]}…), content block "
        f"{model.alignment_block}, weight {model.alignment_weight}",
    )


def _find_file(model: NvgModelConfig) -> Path:
    """The weights of the configured network."""
    if model.alignment != _EFFICIENTNET:
        return DINOV2.find(None if model.alignment_folder is None else Path(model.alignment_folder))
    if model.alignment_folder is not None:
        raise InputError(
            f"`model.alignment_folder={model.alignment_folder}` goes with model.alignment = dinov2, got {_EFFICIENTNET}, whose "
            "weights are in its package; leave the folder out"
        )
    return find_weights(_EFFICIENTNET, DINOV2.what, _WITHOUT)


def _fall_back(model: NvgModelConfig, error: InputError) -> str:
    """The note of a training without alignment under ``auto``; an explicit folder makes the alignment required."""
    if model.alignment != "auto" or model.alignment_folder is not None:
        raise error
    return f"feature alignment: none, because {error}"
