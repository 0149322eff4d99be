"""VAR's multi-scale residual quantizer (paper, section 3.2, Algorithms 1 and 2).

Shape letters: B batch, S scales, L = h·w positions of the grid, n tokens of one scale, C latent channels, V codebook size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.autoencoder.quantization import (
    QuantizerOutput,
    entropy_term,
    make_codebook,
    nearest_codes,
    soft_codes,
    straight_through,
)
from nvgbench.types import TokenSequence
from nvgbench_baselines.var.config import ScaleConfig


def phi_index(stage: int, scales: int, convs: int) -> int:
    """Which of ``convs`` shared convolutions scale ``stage`` uses: the one whose tick is closest to stage / (scales - 1).

    The ticks are evenly spaced between 0 and 1, with margins. Two of the ten published scales lie exactly between two ticks;
    double-precision rounding of this expression decides them as in the published weights.
    """
    margin = 1 / 3 / convs if convs == 4 else 1 / 2 / convs
    ticks = np.linspace(margin, 1 - margin, convs)
    return int(np.argmin(np.abs(ticks - stage / max(scales - 1, 1))))


@dataclass(frozen=True)
class _Step:
    """One scale: vectors to quantize, their codes, canvas afterwards."""

    vectors_NC: Tensor
    indices_Bn: Tensor
    canvas_BChw: Tensor


class ScaleQuantizer(nn.Module):
    """Residual quantization from a 1x1 token map up to the grid; all arithmetic in float32.

    Args:
        config: scales, convolutions, distance.
        codebook_size: V.
        channels: C.
        grid: height and width of the latent grid; must be square.
        commitment: weight of the encoder's term in the quantization loss.
        entropy: also compute the entropy term, averaged over the scales.

    Raises:
        InputError: the scales do not fit the grid.
    """

    def __init__(
        self,
        config: ScaleConfig,
        codebook_size: int,
        channels: int,
        grid: tuple[int, int],
        *,
        commitment: float = 0.25,
        entropy: bool = False,
    ) -> None:
        super().__init__()
        self.config = config
        self.grid = grid
        self.commitment = commitment
        self.entropy = entropy
        self.scales = config.sides(grid)
        self.stage_tokens = tuple(side * side for side in self.scales)
        self.codebook = make_codebook(codebook_size, channels)
        convs = config.phi_convs or len(self.scales)
        self.phi = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(convs))
        self.phi_of_stage = tuple(phi_index(stage, len(self.scales), convs) for stage in range(len(self.scales)))

    @property
    def codebook_VC(self) -> Tensor:
        return self.codebook.weight

    def forward(self, latent_BChw: Tensor, soft: bool = False) -> QuantizerOutput:
        """Quantize for training.

        The loss compares the canvas after each scale with the latent: mean over scales of commitment · mse(canvas detached,
        latent) + mse(canvas, latent detached).

        Args:
            latent_BChw: the encoder's output.
            soft: index back-propagation: codes get the gradient of a softmax over the whole codebook, and the residual
                stays in the graph, so that later scales also train earlier ones. Values are the same as without.
        """
        with torch.autocast(latent_BChw.device.type, enabled=False):
            latent_BChw = latent_BChw.float()
            fixed_BChw = latent_BChw.detach()
            steps = list(self._steps(latent_BChw, soft))
            losses = [
                self.commitment * F.mse_loss(step.canvas_BChw.detach(), latent_BChw) + F.mse_loss(step.canvas_BChw, fixed_BChw)
                for step in steps
            ]
            entropies = [entropy_term(step.vectors_NC, self.codebook_VC) for step in steps] if self.entropy else []
            return QuantizerOutput(
                latent_BChw=straight_through(steps[-1].canvas_BChw, latent_BChw),
                codebook_loss=torch.stack(losses).mean(),
                tokens=TokenSequence(tuple(step.indices_Bn for step in steps)),
                entropy_loss=torch.stack(entropies).mean() if entropies else None,
            )

    @torch.no_grad()
    def tokenize(self, latent_BChw: Tensor) -> TokenSequence:
        """The token maps, coarse to fine, each in raster order."""
        with torch.autocast(latent_BChw.device.type, enabled=False):
            return TokenSequence(tuple(step.indices_Bn for step in self._steps(latent_BChw.float(), soft=False)))

    def canvases(self, tokens: TokenSequence) -> Tensor:
        """The canvas after each scale, ``[B, S, C, h, w]``; the last is the quantized latent."""
        updates = [self.refine(self.codebook(indices), stage) for stage, indices in enumerate(tokens.indices)]
        return torch.stack(updates, dim=1).cumsum(dim=1)

    def refine(self, vectors_BnC: Tensor, stage: int) -> Tensor:
        """The update of the canvas by the codebook vectors of one scale, ``[B, C, h, w]``: bicubic upsampling, then phi."""
        with torch.autocast(vectors_BnC.device.type, enabled=False):
            side = self.scales[stage]
            map_BCss = vectors_BnC.float().transpose(1, 2).unflatten(2, (side, side))
            if side != self.grid[0]:
                map_BCss = F.interpolate(map_BCss, size=self.grid, mode="bicubic")
            strength = self.config.phi_strength
            return (1 - strength) * map_BCss + strength * self.phi[self.phi_of_stage[stage]](map_BCss)

    def shrink(self, canvas_BChw: Tensor, stage: int) -> Tensor:
        """The canvas averaged over the area of each position of a scale, ``[B, n, C]``; at the last scale the canvas itself."""
        side = self.scales[stage]
        if side != self.grid[0]:
            canvas_BChw = F.interpolate(canvas_BChw.float(), size=(side, side), mode="area")
        return canvas_BChw.flatten(2).transpose(1, 2)

    @torch.no_grad()
    def teacher_inputs(self, tokens: TokenSequence) -> Tensor:
        """What the transformer sees at the scales after the first when all tokens are known, ``[B, L_all - n_0, C]``."""
        canvases_BSChw = self.canvases(tokens)
        inputs = [self.shrink(canvases_BSChw[:, stage - 1], stage) for stage in range(1, len(self.scales))]
        return torch.cat([canvases_BSChw.new_empty(len(tokens), 0, canvases_BSChw.shape[2]), *inputs], dim=1)

    def _steps(self, latent_BChw: Tensor, soft: bool) -> Iterator[_Step]:
        """Quantize what is left of the latent, scale after scale."""
        canvas_BChw = torch.zeros_like(latent_BChw)
        for stage in range(len(self.scales)):
            rest_BChw = latent_BChw - (canvas_BChw if soft else canvas_BChw.detach())
            vectors_NC = self.shrink(rest_BChw, stage).flatten(0, 1)
            indices_N, codes_NC = self._choose(vectors_NC, soft)
            canvas_BChw = canvas_BChw + self.refine(codes_NC.unflatten(0, (len(latent_BChw), -1)), stage)
            yield _Step(vectors_NC, indices_N.unflatten(0, (len(latent_BChw), -1)), canvas_BChw)

    def _choose(self, vectors_NC: Tensor, soft: bool) -> tuple[Tensor, Tensor]:
        """Indices and codebook vectors of the nearest codes."""
        compared_VC = self.codebook_VC
        if self.config.distance == "cosine":
            vectors_NC, compared_VC = F.normalize(vectors_NC, dim=-1), F.normalize(compared_VC, dim=-1)
        if not soft:
            indices_N = nearest_codes(vectors_NC, compared_VC)
            return indices_N, self.codebook(indices_N)
        indices_N, soft_NC = soft_codes(vectors_NC, compared_VC)
        return indices_N, straight_through(self.codebook(indices_N), soft_NC)
