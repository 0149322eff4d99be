"""What the content generator is aligned with: patch features of a frozen DINOv2 (Oquab et al. 2023), and where they come from.

Shape letters: B batch, L positions of the latent grid, F channels of the features (768), H and W pixels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.weights.hub_network import HubNetwork

_WAY_OUT = "model.alignment=none"
DINOV2 = HubNetwork(
    repository="facebook/dinov2-base",
    model="Dinov2Model",
    what="the feature alignment",
    argument="model.alignment_folder",
    without=_WAY_OUT,
)
# ImageNet's statistics, turned into the scale of images in [-1, 1].
_MEAN = [2 * mean - 1 for mean in (0.485, 0.456, 0.406)]
_STD = [2 * deviation for deviation in (0.229, 0.224, 0.225)]


class PatchFeatures:
    """Images to one feature vector a position: the patch tokens of a DINOv2 after its last layer norm.

    Images are resized so that the grid has a patch a position (224 px for 16 x 16, patches of 14 px), by the bicubic filter
    without antialiasing as in REPA's code, and normalised with ImageNet's mean and deviation.

    Args:
        network: a frozen ``Dinov2Model`` of transformers.
        grid: height and width of the latent grid.

    Attributes:
        features: F.
    """

    def __init__(self, network: nn.Module, grid: tuple[int, int]) -> None:
        # transformers makes its classes' attributes at run time, out of a type checker's sight.
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


def find_target(config: RunConfig) -> tuple[Path | None, str]:
    """The file with the target network's weights; where there is none, why not (nothing to say if none is asked for).

    Raises:
        InputError: the alignment is demanded and cannot be had, or its images are not there (``train.cache_tokens``).
    """
    model: NvgModelConfig = config.model
    if model.alignment == "none" or model.alignment_weight == 0:
        return None, ""
    try:
        if model.alignment_block > model.depth:
            raise InputError(
                f"model.alignment_block = {model.alignment_block} is beyond the {model.depth} blocks of model.depth; "
                f"lower it, or go without: `{_WAY_OUT}`"
            )
        file = DINOV2.find(None if model.alignment_folder is None else Path(model.alignment_folder))
    except InputError as error:
        return None, _fall_back(model, error)
    if config.train.cache_tokens:
        raise InputError(
            "the feature alignment needs the training images, and train.cache_tokens = true keeps their tokens alone; "
            f"use `train.cache_tokens=false`, or go without: `{_WAY_OUT}`"
        )
    return file, ""


def load_target(config: RunConfig, grid: tuple[int, int]) -> tuple[PatchFeatures | None, tuple[str, ...]]:
    """The target of the alignment, None where there is none, and one line for the record wherever one was asked for.

    Raises:
        InputError: see `find_target`; or the demanded weights are damaged.
    """
    model: NvgModelConfig = config.model
    file, note = find_target(config)
    if file is None:
        return None, (note,) if note else ()
    try:
        target = PatchFeatures(DINOV2.load(file), grid)
    except InputError as error:
        return None, (_fall_back(model, error),)
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()[:16]
    return target, (
        f"feature alignment: DINOv2 of width {target.features} (SHA-256 {digest}…), content block {model.alignment_block}, "
        f"weight {model.alignment_weight}",
    )


def _fall_back(model: NvgModelConfig, error: InputError) -> str:
    """What ``auto`` says where it cannot align; a folder that somebody names is a demand."""
    if model.alignment == "dinov2" or model.alignment_folder is not None:
        raise error
    return f"feature alignment: none, because {error}"
