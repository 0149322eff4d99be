"""The content generator: predicts the final canvas, and from it the tokens of a stage (paper, section 3.2).

Shape letters: B batch (a sample is one image at one stage), L positions, C latent channels, K structure channels, W width,
V codebook size, S stages, n clusters of a stage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from nvgbench.nvg.blocks import (
    ModulatedHead,
    all_vectors,
    in_parts,
    initialise,
    layer_vectors,
    make_blocks,
    split_vectors,
    token_stream,
)
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.rope import StructureRope
from nvgbench.nvg.stages import StageLayout


class ContentGenerator(nn.Module):
    """Predicts the final canvas and the logits of a stage's tokens from the canvas before that stage.

    Args:
        config: sizes and options.
        layout: grid and stages.
        channels: C.
        codebook_size: V.
        num_classes: number of classes; label ``num_classes`` means "no class".

    Raises:
        InputError: the head size has no room for the rotary axes.
    """

    scale_factors: Tensor
    noise_levels: Tensor

    def __init__(
        self, config: NvgModelConfig, layout: StageLayout, *, channels: int, codebook_size: int, num_classes: int
    ) -> None:
        super().__init__()
        width = config.content_width
        self.layout = layout
        self.canvas_input, self.predicts_canvas = config.canvas_input, config.content_target == "final-canvas"
        self.rope = StructureRope(config, layout, canvas_condition=False)
        # At stage 0 the canvas is empty; a learned one takes its place.
        self.start_1LC = nn.Parameter(torch.randn(1, layout.positions, channels))
        self.embed = nn.Linear(channels, width)
        self.class_embed = nn.Embedding(num_classes + 1, width)
        self.stage_embed = nn.Embedding(layout.stages, width)
        self.blocks = make_blocks(config, width)
        self.head = ModulatedHead(width, channels)
        self.token_head = nn.Linear(channels, codebook_size)
        # Entry i scales the canvas that enters stage i to unit variance (0: unused), the last entry the final canvas.
        self.register_buffer("scale_factors", torch.ones(layout.stages + 1))
        # Entry i: standard deviation of the noise on the canvas that enters stage i, relative to the canvas (0: unused).
        levels_S = config.canvas_noise * (1 - (torch.arange(layout.stages) - 1) / layout.last)
        self.register_buffer("noise_levels", levels_S, persistent=False)
        initialise(self)

    @property
    def takes_noise(self) -> bool:
        """Whether predictions need a noise map."""
        return self.canvas_input != "clean"

    def forward(
        self, canvas_BLC: Tensor, se_BLK: Tensor, stage_B: Tensor, labels_B: Tensor, noise_BLC: Tensor | None = None
    ) -> Tensor:
        """Predict the final canvas.

        Args:
            canvas_BLC: the canvas BEFORE this stage, not scaled (ignored at stage 0).
            se_BLK: embedding of this stage's structure map, values 0, 1, 2.
            stage_B: int64 stage of each sample.
            labels_B: int64 class of each sample, or ``num_classes`` for none.
            noise_BLC: standard normal, the same for every stage of an image; only if `takes_noise`.

        Returns:
            float32 ``[B, L, C]``, in the units of the latent. A model of the next content alone returns the canvas plus the
            predicted content, so that the difference from the canvas gives the tokens in both cases.
        """
        return self.predict(canvas_BLC, se_BLK, stage_B, labels_B, noise_BLC)[0]

    def predict(
        self,
        canvas_BLC: Tensor,
        se_BLK: Tensor,
        stage_B: Tensor,
        labels_B: Tensor,
        noise_BLC: Tensor | None = None,
        watched: int | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """The same, and the image tokens ``[B, L, W]`` after block ``watched`` (counted from 1), if one is given."""
        class_BW = self.class_embed(labels_B)
        vectors = layer_vectors(self.blocks, self.head, class_BW + self.stage_embed(stage_B))
        return self._predict(canvas_BLC, se_BLK, stage_B, class_BW, vectors, noise_BLC, watched)

    def stage_vectors(self, labels_B: Tensor, branches: Sequence[int]) -> list[Tensor]:
        """The modulation of all layers at every stage ``[B, P, W]``, for `predict_modulated`.

        Args:
            labels_B: classes, or both branches of guidance one after the other.
            branches: number of rows of each stage, the first ones of ``labels_B``.
        """
        class_BW = self.class_embed(labels_B)
        conditions = [class_BW[:rows] + stage_W for rows, stage_W in zip(branches, self.stage_embed.weight, strict=True)]
        vectors = in_parts(lambda condition: all_vectors(self.blocks, self.head, condition), conditions)
        return list(vectors.split(list(branches)))

    def predict_modulated(
        self,
        canvas_BLC: Tensor,
        se_BLK: Tensor,
        stage_B: Tensor,
        labels_B: Tensor,
        vectors_BPW: Tensor,
        noise_BLC: Tensor | None = None,
    ) -> Tensor:
        """`forward` with the result of `stage_vectors` for this stage."""
        vectors = split_vectors(vectors_BPW, self.blocks, self.head)
        return self._predict(canvas_BLC, se_BLK, stage_B, self.class_embed(labels_B), vectors, noise_BLC, None)[0]

    def _predict(
        self,
        canvas_BLC: Tensor,
        se_BLK: Tensor,
        stage_B: Tensor,
        class_BW: Tensor,
        vectors: Iterator[Tensor],
        noise_BLC: Tensor | None,
        watched: int | None,
    ) -> tuple[Tensor, Tensor | None]:
        scaled_BLC = canvas_BLC * self.scale_factors[stage_B][:, None, None]
        if self.takes_noise:
            assert noise_BLC is not None, "a model whose canvas is noised needs the noise"
            scaled_BLC = self._noised(scaled_BLC, noise_BLC, stage_B)
        scaled_BLC = torch.where((stage_B == 0)[:, None, None], self.start_1LC, scaled_BLC)
        tokens = self.embed(scaled_BLC)
        x_BNW = token_stream(self.blocks, class_BW[:, None].to(tokens.dtype), tokens)
        rotation = self.rope(se_BLK)
        watched_BLW = None
        for number, block in enumerate(self.blocks, start=1):
            x_BNW = block(x_BNW, next(vectors), rotation)
            if number == watched:
                watched_BLW = x_BNW[:, 1:]
        predicted_BLC = self.head(x_BNW[:, 1:], next(vectors)).float() / self.scale_factors[-1]
        return predicted_BLC if self.predicts_canvas else canvas_BLC + predicted_BLC, watched_BLW

    def _noised(self, scaled_BLC: Tensor, noise_BLC: Tensor, stage_B: Tensor) -> Tensor:
        """A canvas of unit variance with noise, by ``model.canvas_input``."""
        level_B11 = self.noise_levels[stage_B][:, None, None]
        if self.canvas_input == "vp-noise":
            scaled_BLC = scaled_BLC * (1 - level_B11.square()).clamp_min(0).sqrt()
        return scaled_BLC + level_B11 * noise_BLC

    @torch.no_grad()
    def start_at_codes(self, codebook_VC: Tensor, variance: float) -> None:
        """Initialise the token logits as -|mean - code|² / (2 variance), up to a constant per cluster.

        Tokens are the codes nearest to cluster means, so distances to the codes are a good start. From random weights the head
        takes long to learn them: latents are small, and confident logits need large weights.

        Args:
            codebook_VC: the tokenizer's codes.
            variance: mean squared distance of the codes in use from their mean; a smaller one is overconfident.
        """
        self.token_head.weight.copy_(codebook_VC / variance)
        self.token_head.bias.copy_(-codebook_VC.square().sum(dim=1) / (2 * variance))

    def token_logits(self, means_BnC: Tensor) -> Tensor:
        """Logits ``[B, n, V]`` over the codebook from the mean of (predicted final canvas - canvas) over each cluster."""
        return self.token_head(means_BnC).float()
