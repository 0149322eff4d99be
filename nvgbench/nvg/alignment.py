"""Feature alignment (REPA, Yu et al. 2024, arXiv 2410.06940) of the content generator (NVG's paper, section 3.2).

In training, a small MLP projects the image tokens after a middle block of the content transformer, and the result is pulled
towards the patch features of a frozen DINOv2 on the training image. Sampling does not use it.

Shape letters: B batch, S stages, L positions, W width of the content transformer, F channels of the target's features.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.nvg.blocks import initialise

HIDDEN = 2048


class Projector(nn.Sequential):
    """Three linear layers with SiLU between them, ``[..., W]`` to ``[..., F]``.

    Parameters are named as in the published files (``0.weight`` … ``4.bias``): 7.9, 8.4 and 8.9 million for d16, d20 and d24,
    not included in the paper's sizes.
    """

    def __init__(self, width: int, features: int) -> None:
        super().__init__(nn.Linear(width, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, features))
        initialise(self)


def alignment_losses(projected_BSLF: Tensor, target_BLF: Tensor) -> Tensor:
    """1 - cosine similarity (0 to 2), averaged over images and positions, per stage.

    Args:
        projected_BSLF: projected features of the content transformer.
        target_BLF: features of the image, the same for every stage.

    Returns:
        float32 ``[S]``.
    """
    cosine_BSL = F.cosine_similarity(projected_BSLF.float(), target_BLF.float()[:, None], dim=-1)
    return 1 - cosine_BSL.mean(dim=(0, 2))
