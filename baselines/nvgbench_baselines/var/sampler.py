"""Sampling from VAR, scale after scale (paper, Figure 4b), with a key-value cache and growing guidance.

Shape letters: B batch, n tokens of one scale, C latent channels, h and w the latent grid, V codebook size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.load import override_dataclass
from nvgbench.data.images import to_uint8
from nvgbench.sampling.filters import choose_tokens, top_k_filter, top_p_filter
from nvgbench.sampling.noise import SeededNoise
from nvgbench.types import ModelSpec, SampleRequest, SampleResult, StageTrace, TokenSequence
from nvgbench_baselines.cache import LayerCache
from nvgbench_baselines.conditioning import checked_labels
from nvgbench_baselines.var.config import VarSamplingConfig
from nvgbench_baselines.var.quantizer import ScaleQuantizer
from nvgbench_baselines.var.transformer import VarTransformer


class Draws(Protocol):
    """Source of a sample's random choices."""

    def tokens(self, logits_BnV: Tensor) -> Tensor:
        """Draw int64 ``[B, n]`` from filtered logits."""
        ...

    def gumbel(self, logits_BnV: Tensor) -> Tensor:
        """Standard Gumbel noise of the logits' shape."""
        ...


class SeededDraws:
    """Choices from one stream per image, so that an image does not depend on its neighbours in the batch."""

    def __init__(self, noise: SeededNoise) -> None:
        self._noise = noise

    def tokens(self, logits_BnV: Tensor) -> Tensor:
        return choose_tokens(logits_BnV, self._noise.uniform(logits_BnV.shape[1]))

    def gumbel(self, logits_BnV: Tensor) -> Tensor:
        uniforms_BnV = self._noise.uniform(*logits_BnV.shape[1:])
        return -torch.log(-torch.log(uniforms_BnV.clamp_min(torch.finfo(torch.float32).tiny)))


@dataclass(frozen=True)
class VarSamples:
    """Sampled tokens, and the canvas ``[B, C, h, w]`` after each scale."""

    tokens: TokenSequence
    canvases: tuple[Tensor, ...]


@torch.no_grad()
def sample(
    transformer: VarTransformer, quantizer: ScaleQuantizer, labels_B: Tensor, settings: VarSamplingConfig, draws: Draws
) -> VarSamples:
    """Sample one image per label.

    Guidance: (1 + t) · conditional - t · unconditional with t rising linearly from 0 at the first scale. Both passes run in one
    batch; without guidance or classes there is no unconditional pass.
    """
    guided = settings.guidance > 0 and bool((labels_B < transformer.num_classes).any())
    batch, stages = len(labels_B), len(quantizer.scales)
    all_labels = torch.cat([labels_B, torch.full_like(labels_B, transformer.num_classes)]) if guided else labels_B
    condition = transformer.condition(all_labels)
    caches = [LayerCache(sum(transformer.stage_tokens)) for _ in range(transformer.config.depth)]
    canvas_BChw = quantizer.codebook_VC.new_zeros(batch, quantizer.codebook_VC.shape[1], *quantizer.grid)
    inputs: Tensor | None = None
    indices, canvases = [], []
    for stage in range(stages):
        progress = stage / max(stages - 1, 1)
        logits_BnV = transformer.step(stage, inputs, condition, caches).float()
        if guided:
            strength = settings.guidance * progress
            logits_BnV = (1 + strength) * logits_BnV[:batch] - strength * logits_BnV[batch:]
        logits_BnV = top_p_filter(top_k_filter(logits_BnV, settings.top_k), settings.top_p)
        tokens_Bn = draws.tokens(logits_BnV)
        if settings.more_smooth:
            vectors_BnC = smooth_vectors(logits_BnV, quantizer.codebook_VC, progress, draws)
        else:
            vectors_BnC = quantizer.codebook(tokens_Bn)
        canvas_BChw = canvas_BChw + quantizer.refine(vectors_BnC, stage)
        indices.append(tokens_Bn)
        canvases.append(canvas_BChw)
        if stage + 1 < stages:
            inputs_BnC = quantizer.shrink(canvas_BChw, stage + 1)
            inputs = torch.cat([inputs_BnC, inputs_BnC]) if guided else inputs_BnC
    return VarSamples(TokenSequence(tuple(indices)), tuple(canvases))


def smooth_vectors(logits_BnV: Tensor, codebook_VC: Tensor, progress: float, draws: Draws) -> Tensor:
    """Mixtures of codebook vectors, ``[B, n, C]``: a Gumbel softmax of the filtered logits, sharper at later scales.

    Args:
        progress: 0 at the first scale, 1 at the last.
    """
    temperature = max(0.27 * (1 - 0.95 * progress), 0.005)
    noisy_BnV = logits_BnV * (1 + progress) + draws.gumbel(logits_BnV)
    return (noisy_BnV / temperature).softmax(dim=-1) @ codebook_VC


class VarImageGenerator:
    """Implements `nvgbench.interfaces.ImageGenerator`."""

    def __init__(
        self, tokenizer: ConvTokenizer, transformer: VarTransformer, settings: VarSamplingConfig, spec: ModelSpec
    ) -> None:
        assert isinstance(tokenizer.quantizer, ScaleQuantizer)
        self.spec = spec
        self.tokenizer = tokenizer
        self.quantizer = tokenizer.quantizer
        self.transformer = transformer
        self.settings = settings

    @torch.no_grad()
    def generate(self, request: SampleRequest) -> SampleResult:
        """Images for the labels and seeds of ``request``.

        Raises:
            InputError: a label that is not a class, a different number of seeds, an unknown or invalid setting.
        """
        settings = override_dataclass(self.settings, request.settings, "sampling")
        device = self.quantizer.codebook_VC.device
        labels_B = checked_labels(request, self.transformer.num_classes, device)
        draws = SeededDraws(SeededNoise(request.seeds_B, device))
        samples = sample(self.transformer, self.quantizer, labels_B, settings, draws)
        images_B3HW = to_uint8(self.tokenizer.decode(samples.canvases[-1]))
        if not request.trace:
            return SampleResult(images_B3HW)
        earlier = [to_uint8(self.tokenizer.decode(canvas)) for canvas in samples.canvases[:-1]]
        stages = zip(self.quantizer.stage_tokens, [*earlier, images_B3HW], strict=True)
        return SampleResult(images_B3HW, tuple(StageTrace(tokens, images) for tokens, images in stages))
