"""The tokenizer of every bundled family: a convolutional encoder and decoder around the family's quantizer.

Shape letters: B batch, S stages, C latent channels, H and W pixels, h and w the latent grid.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from nvgbench.autoencoder.decoder import Decoder
from nvgbench.autoencoder.encoder import Encoder
from nvgbench.autoencoder.quantization import Quantizer, QuantizerOutput
from nvgbench.config.schema import RunConfig, TokenizerConfig
from nvgbench.errors import InputError
from nvgbench.types import TokenSequence


@contextlib.contextmanager
def _float32_convolutions(device: torch.device) -> Iterator[None]:
    """No autocast, and no TF32 in convolutions (cuDNN's default)."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


@dataclass(frozen=True)
class TokenizerOutput:
    """The result of a training pass.

    Attributes:
        reconstruction_B3HW: the decoder's output, NOT clamped; the objective clamps it, like the reference.
        quantized: the quantizer's output.
    """

    reconstruction_B3HW: Tensor
    quantized: QuantizerOutput


class ConvTokenizer(nn.Module):
    """Images to stages of tokens and back; a `CodebookTokenizer` and `LatentTokenizer` of `nvgbench.interfaces`.

    Args:
        config: sizes of encoder and decoder.
        grid: height and width of the latent grid.
        quantizer: an ``nn.Module`` that implements `nvgbench.autoencoder.quantization.Quantizer`.
    """

    def __init__(self, config: TokenizerConfig, grid: tuple[int, int], quantizer: nn.Module) -> None:
        super().__init__()
        self.grid = grid
        self.downsampling = 2 ** (len(config.channel_multipliers) - 1)
        self.latent_channels = config.latent_channels
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantizer = quantizer
        if config.codebook_std is not None:
            nn.init.normal_(self._quantizer.codebook_VC, std=config.codebook_std)
        self.before_quantizer = self._quant_conv(config)
        self.after_quantizer = self._quant_conv(config)

    @classmethod
    def of(cls, config: RunConfig, quantizer: Callable[..., nn.Module]) -> ConvTokenizer:
        """An untrained tokenizer of the sizes in ``config``.

        Args:
            config: the run's configuration.
            quantizer: called with its configuration, codebook size, latent channels, grid and loss settings.

        Raises:
            InputError: the quantizer's stages do not fit the grid.
        """
        settings = config.tokenizer
        module = quantizer(
            settings.quantizer,
            settings.codebook_size,
            settings.latent_channels,
            config.grid,
            commitment=settings.losses.commitment,
            entropy=settings.losses.entropy_weight > 0,
        )
        return cls(settings, config.grid, module)

    @staticmethod
    def _quant_conv(config: TokenizerConfig) -> nn.Module:
        channels = config.latent_channels
        return nn.Conv2d(channels, channels, 3, padding=1) if config.quant_convs else nn.Identity()

    @property
    def _quantizer(self) -> Quantizer:
        return cast(Quantizer, self.quantizer)

    @property
    def codebook_size(self) -> int:
        return len(self._quantizer.codebook_VC)

    @property
    def stage_tokens(self) -> tuple[int, ...]:
        """Unique tokens of each stage."""
        return self._quantizer.stage_tokens

    def latent(self, images_B3HW: Tensor) -> Tensor:
        """The continuous latent ``[B, C, h, w]`` of float images in [-1, 1], as the quantizer sees it.

        Raises:
            InputError: the images do not have this tokenizer's size.
        """
        height, width = (side * self.downsampling for side in self.grid)
        if images_B3HW.ndim != 4 or images_B3HW.shape[1:] != (3, height, width):
            raise InputError(
                f"the tokenizer was given images of shape {tuple(images_B3HW.shape)}; expected [B, 3, {height}, {width}]; "
                "resize the images or use a preset of their size"
            )
        return self.before_quantizer(self.encoder(images_B3HW))

    @torch.no_grad()
    def encode(self, images_B3HW: Tensor) -> TokenSequence:
        """Tokens of float images in [-1, 1], always computed in float32.

        Small differences decide clusters and codes: with bf16 or TF32 latents, tokens would depend on the device.
        """
        with _float32_convolutions(images_B3HW.device):
            return self._quantizer.tokenize(self.latent(images_B3HW))

    def decode(self, source: TokenSequence | Tensor) -> Tensor:
        """Images in [-1, 1] from tokens, or from a canvas ``[B, C, h, w]``."""
        canvas_BChw = source if isinstance(source, Tensor) else self.canvas(source, -1)
        return self._reconstruct(canvas_BChw).clamp(-1.0, 1.0)

    def canvas(self, tokens: TokenSequence, stage: int) -> Tensor:
        """The canvas ``[B, C, h, w]`` after ``stage`` (-1: the last, which is the quantized latent)."""
        return self.canvases(tokens)[:, stage]

    def canvases(self, tokens: TokenSequence) -> Tensor:
        """The canvas after each stage, ``[B, S, C, h, w]``."""
        return self._quantizer.canvases(tokens)

    def forward(self, images_B3HW: Tensor, soft: bool = False) -> TokenizerOutput:
        """Encode, quantize and decode for training; ``soft`` turns on index back-propagation."""
        quantized = self._quantizer(self.latent(images_B3HW), soft)
        return TokenizerOutput(self._reconstruct(quantized.latent_BChw), quantized)

    def _reconstruct(self, canvas_BChw: Tensor) -> Tensor:
        return self.decoder(self.after_quantizer(canvas_BChw))
