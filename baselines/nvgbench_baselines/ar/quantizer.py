"""A plain vector quantizer: one token per position of the latent (VQGAN; LlamaGen with ``unit_sphere``).

Shape letters: B batch, L = h·w positions, C latent channels, V codebook size.
"""

from __future__ import annotations

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
from nvgbench_baselines.ar.config import FlatConfig


class FlatQuantizer(nn.Module):
    """One stage of L tokens in raster order; all arithmetic in float32.

    Args:
        config: options.
        codebook_size: V.
        channels: C.
        grid: height and width of the latent grid.
        commitment: weight of the encoder's term in the quantization loss.
        entropy: also compute the entropy term.
    """

    def __init__(
        self,
        config: FlatConfig,
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
        self.stage_tokens = (grid[0] * grid[1],)
        self.codebook = make_codebook(codebook_size, channels)

    @property
    def codebook_VC(self) -> Tensor:
        """The codes as the decoder gets them."""
        return self._project(self.codebook.weight)

    def forward(self, latent_BChw: Tensor, soft: bool = False) -> QuantizerOutput:
        """Quantize for training; ``soft`` turns on index back-propagation, see `soft_codes`."""
        with torch.autocast(latent_BChw.device.type, enabled=False):
            vectors_NC = self._vectors(latent_BChw)
            if soft:
                indices_N, codes_NC = soft_codes(vectors_NC, self.codebook_VC)
            else:
                indices_N = nearest_codes(vectors_NC, self.codebook_VC)
                codes_NC = self.codebook_VC[indices_N]
            indices_BL = indices_N.unflatten(0, (len(latent_BChw), -1))
            quantized_NC = straight_through(codes_NC, vectors_NC)
            return QuantizerOutput(
                latent_BChw=self._image(quantized_NC.unflatten(0, indices_BL.shape)),
                codebook_loss=self.commitment * F.mse_loss(codes_NC.detach(), vectors_NC)
                + F.mse_loss(codes_NC, vectors_NC.detach()),
                tokens=TokenSequence((indices_BL,)),
                entropy_loss=entropy_term(vectors_NC, self.codebook_VC) if self.entropy else None,
            )

    @torch.no_grad()
    def tokenize(self, latent_BChw: Tensor) -> TokenSequence:
        """The token of every position."""
        indices_N = nearest_codes(self._vectors(latent_BChw), self.codebook_VC)
        return TokenSequence((indices_N.unflatten(0, (len(latent_BChw), -1)),))

    def canvases(self, tokens: TokenSequence) -> Tensor:
        """The quantized latent as the only stage, ``[B, 1, C, h, w]``."""
        return self._image(self.codebook_VC[tokens.indices[0]]).unsqueeze(1)

    def _vectors(self, latent_BChw: Tensor) -> Tensor:
        return self._project(latent_BChw.float().flatten(2).transpose(1, 2).flatten(0, 1))

    def _image(self, vectors_BLC: Tensor) -> Tensor:
        return vectors_BLC.transpose(1, 2).unflatten(2, self.grid)

    def _project(self, vectors_NC: Tensor) -> Tensor:
        return F.normalize(vectors_NC, dim=-1) if self.config.unit_sphere else vectors_NC
