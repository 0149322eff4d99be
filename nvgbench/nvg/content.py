"""The content generator: predicts the final canvas, and from it the tokens of a stage (paper, section 3.2, equation 3).

Shape letters: B batch (a sample is one image at one stage), L positions, C latent channels, K structure channels, W width,
V codebook size, S stages, n clusters of a stage.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nvgbench.nvg.blocks import ModulatedHead, initialise, make_blocks
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.rope import StructureRope
from nvgbench.nvg.stages import StageLayout


class ContentGenerator(nn.Module):
    """Canvas before a stage to a prediction of the final canvas, and to the logits of the stage's tokens.

    Args:
        config: sizes and options.
        layout: grid and stages.
        channels: C.
        codebook_size: V.
        num_classes: classes; index ``num_classes`` stands for "no class" in guidance.

    Raises:
        InputError: the head size has no room for the axes.
    """

    scale_factors: Tensor

    def __init__(
        self, config: NvgModelConfig, layout: StageLayout, *, channels: int, codebook_size: int, num_classes: int
    ) -> None:
        super().__init__()
        width = config.content_width
        self.layout = layout
        self.rope = StructureRope(config, layout, canvas_condition=False)
        # Stage 0 has no canvas yet; a learned one stands in for it.
        self.start_1LC = nn.Parameter(torch.randn(1, layout.positions, channels))
        self.embed = nn.Linear(channels, width)
        self.class_embed = nn.Embedding(num_classes + 1, width)
        self.stage_embed = nn.Embedding(layout.stages, width)
        self.blocks = make_blocks(config, width)
        self.head = ModulatedHead(width, channels)
        self.token_head = nn.Linear(channels, codebook_size)
        # Entry i brings the canvas that enters stage i to unit size (0: unused), the last one the final canvas.
        self.register_buffer("scale_factors", torch.ones(layout.stages + 1))
        initialise(self)

    def forward(self, canvas_BLC: Tensor, se_BLK: Tensor, stage_B: Tensor, labels_B: Tensor) -> Tensor:
        """Predict the final canvas.

        Args:
            canvas_BLC: the canvas BEFORE this stage, not scaled (at stage 0 it is not read).
            se_BLK: embedding of this stage's structure map, values 0, 1, 2.
            stage_B: int64 stage of each sample.
            labels_B: int64 class of each sample, or the number of classes for none.

        Returns:
            float32 ``[B, L, C]``, in the units of the latent.
        """
        return self.predict(canvas_BLC, se_BLK, stage_B, labels_B)[0]

    def predict(
        self, canvas_BLC: Tensor, se_BLK: Tensor, stage_B: Tensor, labels_B: Tensor, watched: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The same, and the image tokens ``[B, L, W]`` that block ``watched`` (counted from 1) puts out, where one is given."""
        scaled_BLC = canvas_BLC * self.scale_factors[stage_B][:, None, None]
        scaled_BLC = torch.where((stage_B == 0)[:, None, None], self.start_1LC, scaled_BLC)
        class_BW = self.class_embed(labels_B)
        condition_BW = class_BW + self.stage_embed(stage_B)
        tokens = self.embed(scaled_BLC)
        x_BNW = torch.cat((class_BW[:, None].to(tokens.dtype), tokens), dim=1)
        rotation = self.rope(se_BLK)
        watched_BLW = None
        for number, block in enumerate(self.blocks, start=1):
            x_BNW = block(x_BNW, condition_BW, rotation)
            if number == watched:
                watched_BLW = x_BNW[:, 1:]
        return self.head(x_BNW[:, 1:], condition_BW).float() / self.scale_factors[-1], watched_BLW

    @torch.no_grad()
    def start_at_codes(self, codebook_VC: Tensor, variance: float) -> None:
        """Let the token logits begin as -|mean - code|² / (2 variance), up to what they have in common.

        The stage's tokens are the codes nearest to such means, which weights drawn by lot have to find out: latents are
        small, and the head's weights large where it is sure, so that they take long to grow.

        Args:
            codebook_VC: the tokenizer's codes.
            variance: mean squared distance of the codes in use from their mean; a start that is surer than that errs more.
        """
        self.token_head.weight.copy_(codebook_VC / variance)
        self.token_head.bias.copy_(-codebook_VC.square().sum(dim=1) / (2 * variance))

    def token_logits(self, means_BnC: Tensor) -> Tensor:
        """Logits ``[B, n, V]`` over the codebook from the mean of (predicted final canvas - canvas) over each cluster."""
        return self.token_head(means_BnC).float()
