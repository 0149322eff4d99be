"""Sampling from VAR, scale after scale (paper, Figure 4b), with a key-value cache and growing guidance.

Shape letters: B batch, n tokens of one scale, C latent channels, h and w the latent grid, V codebook size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.data.images import to_uint8
from nvgbench.sampling.filters import choose_tokens, top_k_filter, top_p_filter
from nvgbench.sampling.noise import SeededNoise
from nvgbench.sampling.parts import part
from nvgbench.types import ModelSpec, SampleResult, StageTrace, TokenSequence
from nvgbench_baselines.cache import LayerCache
from nvgbench_baselines.generator import BaselineGenerator
from nvgbench_baselines.inference import InferenceModels
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


class GivenDraws:
    """Choices by numbers that were drawn before, in the order of the scales.

    Args:
        uniforms_BL: one number in [0, 1) per token.
        gumbel_uniforms: one per token and code ``[B, n, V]`` of every scale, for `gumbel`.
    """

    def __init__(self, uniforms_BL: Tensor, gumbel_uniforms: Sequence[Tensor] = ()) -> None:
        self._uniforms_BL, self._used = uniforms_BL, 0
        self._gumbel_uniforms = iter(gumbel_uniforms)

    def tokens(self, logits_BnV: Tensor) -> Tensor:
        start, self._used = self._used, self._used + logits_BnV.shape[1]
        return choose_tokens(logits_BnV, self._uniforms_BL[:, start : self._used])

    def gumbel(self, logits_BnV: Tensor) -> Tensor:
        uniforms_BnV = next(self._gumbel_uniforms)
        assert uniforms_BnV.shape == logits_BnV.shape
        return -torch.log(-torch.log(uniforms_BnV.clamp_min(torch.finfo(torch.float32).tiny)))


def draw_numbers(
    seeds_B: Tensor, stage_tokens: Sequence[int], codebook_size: int, settings: VarSamplingConfig, device: torch.device
) -> tuple[Tensor, ...]:
    """The arguments of `GivenDraws`, from one stream per image, so that an image does not depend on its neighbours."""
    noise = SeededNoise(seeds_B)
    uniforms, gumbel_uniforms = [], []
    for tokens in stage_tokens:
        uniforms.append(noise.uniform(tokens))
        if settings.more_smooth:
            gumbel_uniforms.append(noise.uniform(tokens, codebook_size))
    return tuple(numbers.to(device) for numbers in (torch.cat(uniforms, dim=1), *gumbel_uniforms))


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
    batch; without guidance there is no unconditional pass.
    """
    guided = settings.guidance > 0
    batch, stages = len(labels_B), len(quantizer.scales)
    all_labels = torch.cat([labels_B, torch.full_like(labels_B, transformer.num_classes)]) if guided else labels_B
    condition = transformer.condition(all_labels)
    caches = [LayerCache(sum(transformer.stage_tokens)) for _ in range(transformer.config.depth)] if settings.kv_cache else None
    canvas_BChw = quantizer.codebook_VC.new_zeros(batch, quantizer.codebook_VC.shape[1], *quantizer.grid)
    earlier = canvas_BChw.new_empty(len(all_labels), 0, canvas_BChw.shape[1])
    inputs: Tensor | None = None
    indices, canvases = [], []
    for stage in range(stages):
        progress = stage / max(stages - 1, 1)
        with part("transformer"):
            if caches is not None:
                logits_BnV = transformer.step(stage, inputs, condition, caches).float()
            else:
                earlier = earlier if inputs is None else torch.cat([earlier, inputs], dim=1)
                logits_BnV = transformer.step_without_cache(stage, earlier, condition).float()
        if guided:
            strength = settings.guidance * progress
            logits_BnV = (1 + strength) * logits_BnV[:batch] - strength * logits_BnV[batch:]
        logits_BnV = top_p_filter(top_k_filter(logits_BnV, settings.top_k), settings.top_p)
        tokens_Bn = draws.tokens(logits_BnV)
        if settings.more_smooth:
            vectors_BnC = smooth_vectors(logits_BnV, quantizer.codebook_VC, progress, draws)
        else:
            vectors_BnC = quantizer.codebook(tokens_Bn)
        with part("quantizer"):
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


class VarImageGenerator(BaselineGenerator):
    """Images from tokenizer and transformer; a trace has the canvas after every scale."""

    unguided = 0.0

    def __init__(
        self, tokenizer: ConvTokenizer, transformer: VarTransformer, settings: VarSamplingConfig, spec: ModelSpec
    ) -> None:
        assert isinstance(tokenizer.quantizer, ScaleQuantizer)
        super().__init__(tokenizer, transformer, settings, spec)
        self.quantizer = tokenizer.quantizer
        self.models = InferenceModels(transformer)

    def _images(self, settings: VarSamplingConfig, labels_B: Tensor, seeds_B: Tensor, *, trace: bool) -> SampleResult:
        canvases = self._sample(settings, labels_B, seeds_B).canvases
        images = [self._decode(canvas) for canvas in (canvases if trace else canvases[-1:])]
        if not trace:
            return SampleResult(images[-1])
        stages = zip(self.quantizer.stage_tokens, images, strict=True)
        return SampleResult(images[-1], tuple(StageTrace(tokens, image) for tokens, image in stages))

    def _tokens(self, settings: VarSamplingConfig, labels_B: Tensor, seeds_B: Tensor) -> TokenSequence:
        return self._sample(settings, labels_B, seeds_B).tokens

    def _sample(self, settings: VarSamplingConfig, labels_B: Tensor, seeds_B: Tensor) -> VarSamples:
        """All scales as one function of tensors."""
        quantizer, stages = self.quantizer, len(self.quantizer.scales)
        numbers = draw_numbers(seeds_B, quantizer.stage_tokens, len(quantizer.codebook_VC), settings, self.device)
        transformer = self.models.get(settings, self.device)

        def run(labels_B: Tensor, uniforms_BL: Tensor, *gumbel_uniforms: Tensor) -> tuple[Tensor, ...]:
            samples = sample(transformer, quantizer, labels_B, settings, GivenDraws(uniforms_BL, gumbel_uniforms))
            return (*samples.tokens.indices, *samples.canvases)

        found = self.graphs.call("sample", run, labels_B, *numbers, key=settings)
        return VarSamples(TokenSequence(found[:stages]), found[stages:])

    def _decode(self, canvas_BChw: Tensor) -> Tensor:
        """uint8 images."""
        with part("decoder"):
            (images_B3HW,) = self.graphs.call("decode", lambda canvas: (to_uint8(self.tokenizer.decode(canvas)),), canvas_BChw)
        return images_B3HW
