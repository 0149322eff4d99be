"""The multi-granularity quantizer (paper, section 3.1): clusters of the latent, quantized coarse to fine.

Shape letters: B batch, S stages (K + 1), L positions of the grid in raster order, C latent channels, n clusters of a stage,
h and w the latent grid, V codebook size.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass

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
from nvgbench.errors import InputError
from nvgbench.nvg.clustering import build_structure
from nvgbench.nvg.config import GranularityConfig
from nvgbench.nvg.stages import stage_tokens
from nvgbench.nvg.structure import finest_to_stages
from nvgbench.types import TokenSequence


class Refiner(nn.Module):
    """phi: h + strength · conv3x3(h), applied to the assigned codes before they are added to the canvas."""

    def __init__(self, channels: int, strength: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.strength = strength

    def forward(self, codes_BChw: Tensor) -> Tensor:
        return codes_BChw + self.strength * self.conv(codes_BChw)


@dataclass(frozen=True)
class _Step:
    """One stage: its structure map, the means that were looked up, the codes found, and the canvas after it."""

    structure_BL: Tensor
    means_NC: Tensor
    indices_Bn: Tensor
    canvas_BChw: Tensor


class GranularityQuantizer(nn.Module):
    """Residual quantization over a balanced hierarchy of clusters, one codebook for all stages (equations 4 and 5).

    Stage i replaces the residual of each of its n_i clusters by the code nearest to its mean; the refined codes of all stages
    add up to the canvas. All arithmetic is float32 even under autocast, because residuals are small differences.

    Args:
        config: hierarchy and refiners.
        codebook_size: V.
        channels: C.
        grid: height and width of the latent grid; their product is a power of ``config.group_size``, or its product.
        commitment: weight of the encoder's term in the quantization loss.
        entropy: also compute the entropy term, averaged over the stages.

    Raises:
        InputError: the group sizes do not lead from one cluster to that many positions.
    """

    def __init__(
        self,
        config: GranularityConfig,
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
        self.stage_tokens = stage_tokens(grid[0] * grid[1], config.group_size)
        self.codebook = make_codebook(codebook_size, channels)
        refiners = len(self.stage_tokens) if config.phi_sharing == "none" else 1
        self.refiners = nn.ModuleList(Refiner(channels, config.phi_strength) for _ in range(refiners))

    @property
    def codebook_VC(self) -> Tensor:
        return self.codebook.weight

    def forward(self, latent_BChw: Tensor, soft: bool = False) -> QuantizerOutput:
        """Quantize for training.

        The loss compares the canvas after each stage with the latent (not codes with residuals): mean over stages of
        commitment · mse(canvas detached, latent) + mse(canvas, latent detached).

        Args:
            latent_BChw: continuous latent.
            soft: index back-propagation: codes get the gradient of a softmax over the whole codebook, and residuals stay in the
                graph, so that later stages also train earlier ones. Values and the encoder's gradient are the same.
        """
        with torch.autocast(latent_BChw.device.type, enabled=False):
            latent_BChw = latent_BChw.float()
            target_BChw = latent_BChw.detach()
            structure_BSL = self.structure(target_BChw)
            indices: list[Tensor] = []
            losses: list[Tensor] = []
            entropies: list[Tensor] = []
            for step in self._quantize(target_BChw, structure_BSL, soft):
                canvas_BChw = step.canvas_BChw
                indices.append(step.indices_Bn)
                losses.append(
                    self.commitment * F.mse_loss(canvas_BChw.detach(), latent_BChw) + F.mse_loss(canvas_BChw, target_BChw)
                )
                if self.entropy:
                    # The same means, with a gradient to the encoder.
                    path_BnC = cluster_means(_rows(latent_BChw - target_BChw), step.structure_BL, step.indices_Bn.shape[1])
                    entropies.append(entropy_term(step.means_NC + path_BnC.flatten(0, 1), self.codebook_VC))
            return QuantizerOutput(
                latent_BChw=straight_through(canvas_BChw, latent_BChw),
                codebook_loss=torch.stack(losses).mean(),
                tokens=TokenSequence(tuple(indices), structure_BSL[:, -1]),
                entropy_loss=torch.stack(entropies).mean() if entropies else None,
            )

    @torch.no_grad()
    def tokenize(self, latent_BChw: Tensor) -> TokenSequence:
        """Codes of every stage and the last structure map."""
        with torch.autocast(latent_BChw.device.type, enabled=False):
            latent_BChw = latent_BChw.float()
            structure_BSL = self.structure(latent_BChw)
            steps = self._quantize(latent_BChw, structure_BSL, soft=False)
            return TokenSequence(tuple(step.indices_Bn for step in steps), structure_BSL[:, -1])

    def _quantize(self, latent_BChw: Tensor, structure_BSL: Tensor, soft: bool) -> Iterator[_Step]:
        """Content construction, coarse to fine (equations 4 and 5).

        Equation 4: c_i = the code nearest to the mean of R_i over each cluster of s_i, with R_0 = Z. Equation 5: R_{i+1} = Z -
        sum over j <= i of phi_j(a(c_j, s_j)), that is Z minus the canvas so far. The printed equation also subtracts the
        residuals R_j, an erratum: the reference implementation computes what is written here.
        """
        canvas_BChw = torch.zeros_like(latent_BChw)
        for stage, clusters in enumerate(self.stage_tokens):
            structure_BL = structure_BSL[:, stage]
            residual_BChw = latent_BChw - (canvas_BChw if soft else canvas_BChw.detach())
            means_NC = cluster_means(_rows(residual_BChw), structure_BL, clusters).flatten(0, 1)
            indices_N, codes_NC = self._choose(means_NC, soft)
            canvas_BChw = canvas_BChw + self._refine(codes_NC.unflatten(0, (-1, clusters)), structure_BL, stage)
            yield _Step(structure_BL, means_NC, indices_N.unflatten(0, (-1, clusters)), canvas_BChw)

    @torch.no_grad()
    def structure(self, latent_BChw: Tensor) -> Tensor:
        """Structure maps ``[B, S, L]`` of all stages, from the latent (paper, Algorithm 1).

        Random draws are seeded by the image's own latent, so that an image has the same tokens in every batch.
        """
        latent_BLC = _rows(latent_BChw)
        if "random" not in (self.config.clustering, self.config.child_order):
            return self._build(latent_BLC, None)
        seeds = (zlib.crc32((16 * latent_LC).round().to(torch.int16).cpu().numpy().tobytes()) for latent_LC in latent_BLC)
        generators = (torch.Generator().manual_seed(seed) for seed in seeds)
        return torch.cat([self._build(one_BLC, rng) for one_BLC, rng in zip(latent_BLC.split(1), generators, strict=True)])

    def _build(self, latent_BLC: Tensor, generator: torch.Generator | None) -> Tensor:
        return build_structure(
            latent_BLC,
            group_size=self.config.group_size,
            child_order=self.config.child_order,
            method=self.config.clustering,
            generator=generator,
            grid=self.grid,
        )

    def canvases(self, tokens: TokenSequence) -> Tensor:
        """The canvas after each stage, ``[B, S, C, h, w]``; the last is the quantized latent."""
        structure_BSL = self._stage_structure(tokens)
        updates = [
            self._refine(self.codebook(indices_Bn), structure_BSL[:, stage], stage)
            for stage, indices_Bn in enumerate(tokens.indices)
        ]
        return torch.stack(updates, dim=1).cumsum(1)

    def refine(self, indices_Bn: Tensor, structure_BL: Tensor, stage: int) -> Tensor:
        """The update of the canvas by the codes of ``stage``: phi_stage(a(c, s)), ``[B, L, C]``.

        Args:
            indices_Bn: int64 code of each cluster.
            structure_BL: int64 structure map of this stage, 0 … n - 1.
            stage: 0 … K.
        """
        return _rows(self._refine(self.codebook(indices_Bn), structure_BL, stage))

    def _stage_structure(self, tokens: TokenSequence) -> Tensor:
        if tokens.structure_BL is None:
            raise InputError("NVG's tokenizer was given tokens without a structure map; they come from another family")
        return finest_to_stages(tokens.structure_BL, self.stage_tokens)

    def _choose(self, means_NC: Tensor, soft: bool) -> tuple[Tensor, Tensor]:
        if soft:
            return soft_codes(means_NC, self.codebook_VC)
        indices_N = nearest_codes(means_NC, self.codebook_VC)
        return indices_N, self.codebook(indices_N)

    def _refine(self, codes_BnC: Tensor, structure_BL: Tensor, stage: int) -> Tensor:
        with torch.autocast(codes_BnC.device.type, enabled=False):
            index_BLC = structure_BL[:, :, None].expand(-1, -1, codes_BnC.shape[2])
            assigned_BChw = codes_BnC.gather(1, index_BLC).transpose(1, 2).unflatten(2, self.grid)
            return self.refiners[stage if len(self.refiners) > 1 else 0](assigned_BChw)


def cluster_means(values_BLC: Tensor, structure_BL: Tensor, clusters: int) -> Tensor:
    """Mean over the positions of each cluster, ``[B, n, C]``; all clusters have the same size."""
    batch, length, channels = values_BLC.shape
    order_BL = structure_BL.argsort(dim=1, stable=True)
    sorted_BLC = values_BLC.gather(1, order_BL[:, :, None].expand(-1, -1, channels))
    return sorted_BLC.view(batch, clusters, length // clusters, channels).mean(2)


def _rows(values_BChw: Tensor) -> Tensor:
    """[B, C, h, w] to [B, L, C]."""
    return values_BChw.flatten(2).transpose(1, 2)
