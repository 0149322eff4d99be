"""Shared by all quantizers: nearest codes, straight-through estimators, entropy term.

Shape letters: B batch, C latent channels, h and w the latent grid, N vectors, V codebook size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvgbench.types import TokenSequence

# Elements of the distance table in memory at once (64 MiB of float32).
CHUNK_ELEMENTS = 1 << 24


@dataclass(frozen=True)
class QuantizerOutput:
    """The result of quantizing a batch of latents.

    Attributes:
        latent_BChw: float32, the quantized latent; gradients pass straight through to the encoder.
        codebook_loss: scalar, commitment and codebook terms, averaged over the stages.
        tokens: the chosen codes, stage after stage.
        entropy_loss: scalar if requested, see `entropy_term`.
    """

    latent_BChw: Tensor
    codebook_loss: Tensor
    tokens: TokenSequence
    entropy_loss: Tensor | None = None


@runtime_checkable
class Quantizer(Protocol):
    """What `nvgbench.autoencoder.tokenizer.ConvTokenizer` needs of a quantizer, which is also an ``nn.Module``."""

    stage_tokens: tuple[int, ...]

    @property
    def codebook_VC(self) -> Tensor: ...

    def __call__(self, latent_BChw: Tensor, soft: bool = False) -> QuantizerOutput: ...

    def tokenize(self, latent_BChw: Tensor) -> TokenSequence: ...

    def canvases(self, tokens: TokenSequence) -> Tensor: ...


def make_codebook(codebook_size: int, channels: int) -> nn.Embedding:
    """A codebook drawn from U(-1/V, 1/V), as in the reference implementations of both papers."""
    codebook = nn.Embedding(codebook_size, channels)
    nn.init.uniform_(codebook.weight, -1.0 / codebook_size, 1.0 / codebook_size)
    return codebook


def nearest_codes(vectors_NC: Tensor, codebook_VC: Tensor) -> Tensor:
    """Index of the nearest codebook row (squared l2) for each vector; the first of equally near ones.

    Vectors are processed in chunks, so that memory does not grow with their number.

    Returns:
        int64 ``[N]`` in 0 … V - 1.
    """
    with torch.no_grad(), torch.autocast(vectors_NC.device.type, enabled=False):
        codebook_VC = codebook_VC.float()
        squares_V = codebook_VC.square().sum(1)
        rows = max(1, CHUNK_ELEMENTS // len(codebook_VC))
        pieces = [
            torch.addmm(squares_V, piece_nC, codebook_VC.T, alpha=-2.0).argmin(1) for piece_nC in vectors_NC.float().split(rows)
        ]
        return torch.cat(pieces) if pieces else vectors_NC.new_empty(0, dtype=torch.int64)


def squared_distances(vectors_NC: Tensor, codebook_VC: Tensor) -> Tensor:
    """Squared l2 distances ``[N, V]``, differentiable in both arguments."""
    return (
        vectors_NC.square().sum(1, keepdim=True) + codebook_VC.square().sum(1) - 2.0 * vectors_NC @ codebook_VC.T
    )  # the Gram form: one matrix product instead of N·V·C differences


def straight_through(quantized: Tensor, continuous: Tensor) -> Tensor:
    """The values of ``quantized`` with the gradient of ``continuous``."""
    return (quantized - continuous).detach() + continuous


def soft_codes(vectors_NC: Tensor, codebook_VC: Tensor) -> tuple[Tensor, Tensor]:
    """Index back-propagation (IBQ): the nearest codes, with the gradient of a softmax over the whole codebook.

    The softmax is over negative squared distances at temperature 1. Its values cancel in the forward pass, so the result equals
    the looked-up codes, while every code receives a gradient in each step.

    Returns:
        ``(indices_N int64, codes_NC)``.
    """
    logits_NV = -squared_distances(vectors_NC, codebook_VC)
    weights_NV = logits_NV.softmax(1)
    indices_N = nearest_codes(vectors_NC, codebook_VC)
    hard_NV = F.one_hot(indices_N, len(codebook_VC)).to(weights_NV.dtype)
    return indices_N, ((hard_NV - weights_NV.detach()) + weights_NV) @ codebook_VC


def entropy_term(vectors_NC: Tensor, codebook_VC: Tensor, temperature: float = 1.0) -> Tensor:
    """Mean entropy of each vector's soft assignment minus the entropy of the mean assignment, in nats (Open-MAGVIT2).

    In [-log V, 0]; small if assignments are confident and codes are used evenly.
    """
    log_weights_NV = (-squared_distances(vectors_NC, codebook_VC) / temperature).log_softmax(1)
    weights_NV = log_weights_NV.exp()
    mean_V = weights_NV.mean(0)
    own = -(weights_NV * log_weights_NV).sum(1).mean()
    overall = -(mean_V * mean_V.clamp_min(1e-12).log()).sum()
    return own - overall
