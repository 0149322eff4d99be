"""Loss terms of the autoencoder.

Shape letters: B batch, N logits per image.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def generator_loss(fake_BN: Tensor) -> Tensor:
    """Non-saturating loss of the decoder: sigmoid cross-entropy of each image's mean logit against "real"."""
    return F.softplus(-fake_BN.float().mean(1)).mean()


def hinge_loss(real_BN: Tensor, fake_BN: Tensor) -> Tensor:
    """Hinge loss of the discriminator."""
    return 0.5 * (F.relu(1.0 - real_BN.float()).mean() + F.relu(1.0 + fake_BN.float()).mean())


class LecamRegularizer(nn.Module):
    """LeCAM (Tseng et al., 2021): keeps logits near the running mean of the other side, for stability with few images.

    The running means are buffers, so that a resumed run equals an uninterrupted one.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = decay
        self.real_mean: Tensor
        self.fake_mean: Tensor
        self.register_buffer("real_mean", torch.zeros(()))
        self.register_buffer("fake_mean", torch.zeros(()))

    def forward(self, real_BN: Tensor, fake_BN: Tensor) -> Tensor:
        """Update the running means with these logits, and return the regulariser."""
        real_BN, fake_BN = real_BN.float(), fake_BN.float()
        with torch.no_grad():
            self.real_mean.lerp_(real_BN.mean(), 1.0 - self.decay)
            self.fake_mean.lerp_(fake_BN.mean(), 1.0 - self.decay)
        return F.relu(real_BN - self.fake_mean).square().mean() + F.relu(self.real_mean - fake_BN).square().mean()
