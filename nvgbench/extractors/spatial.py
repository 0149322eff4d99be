"""The spatial features of sFID (Nash et al. 2021, section 4), as in guided-diffusion's evaluator.

Block ``Mixed_6d``, branch ``branch1x1`` after its ReLU: the first 7 of 192 channels on a grid of 17 x 17, flattened with the
channel as the fastest index, 2023 numbers. Shape letters: B batch, N images.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

POOL_FEATURES = 2048
CHANNELS = 7
GRID = 17
SPATIAL_FEATURES = GRID * GRID * CHANNELS


class SpatialTap:
    """Records the spatial features of torch-fidelity's Inception network while it runs.

    Args:
        network: has ``Mixed_6d.branch1x1``.
    """

    def __init__(self, network: torch.nn.Module) -> None:
        self._seen: Tensor | None = None
        branch: Any = network.Mixed_6d
        branch.branch1x1.register_forward_hook(self._keep)

    def _keep(self, module: torch.nn.Module, inputs: Any, output_BCHW: Tensor) -> None:
        self._seen = output_BCHW[:, :CHANNELS].permute(0, 2, 3, 1).flatten(1)

    def take(self) -> Tensor:
        """The features ``[B, 2023]`` of the last batch."""
        assert self._seen is not None, "the network has not run"
        seen, self._seen = self._seen, None
        return seen


def split_features(features_NF: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Split rows of both features into pool features ``[N, 2048]`` and spatial features ``[N, 2023]``."""
    assert features_NF.shape[1] == POOL_FEATURES + SPATIAL_FEATURES, features_NF.shape
    return features_NF[:, :POOL_FEATURES], features_NF[:, POOL_FEATURES:]
