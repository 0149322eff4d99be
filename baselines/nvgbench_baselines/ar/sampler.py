"""Sampling in raster order with a key-value cache. B batch, L tokens, V codebook size."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.data.images import to_uint8
from nvgbench.sampling.capture import GraphCache
from nvgbench.sampling.filters import choose_tokens
from nvgbench.sampling.noise import SeededNoise
from nvgbench.sampling.parts import part
from nvgbench.types import ModelSpec, SampleResult, StageTrace, TokenSequence
from nvgbench_baselines.ar.config import ArSamplingConfig
from nvgbench_baselines.ar.quantizer import FlatQuantizer
from nvgbench_baselines.ar.transformer import ArTransformer
from nvgbench_baselines.cache import LayerCache
from nvgbench_baselines.generator import BaselineGenerator
from nvgbench_baselines.inference import InferenceModels

# Number of equal parts of the raster after which a trace has a canvas.
TRACE_PARTS = 4


def draw_token(
    transformer: ArTransformer,
    caches: Sequence[LayerCache],
    settings: ArSamplingConfig,
    place: int | Tensor,
    labels_B: Tensor,
    uniforms_B1: Tensor,
    previous_B1: Tensor | None = None,
) -> tuple[Tensor]:
    """One token per label, int64 ``[B, 1]``; see `ArTransformer.step` for ``place``.

    Guidance: unconditional + s · (conditional - unconditional), both passes in one batch; none at s = 1.
    """
    batch, guided = len(labels_B), settings.guidance != 1.0
    if guided:
        labels_B = torch.cat([labels_B, torch.full_like(labels_B, transformer.num_classes)])
    previous_B = None if previous_B1 is None else previous_B1.squeeze(1).repeat(2 if guided else 1)
    with part("transformer"):
        logits_BV = transformer.step(place, labels_B, previous_B, caches).float()
    if guided:
        conditional, unconditional = logits_BV[:batch], logits_BV[batch:]
        logits_BV = unconditional + settings.guidance * (conditional - unconditional)
    chosen_B1 = choose_tokens(
        logits_BV.unsqueeze(1),
        uniforms_B1,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
    )
    return (chosen_B1,)


class ArSampler:
    """Draws token after token.

    Args:
        transformer: in evaluation mode.
        graphs: of that transformer.
        place_on_device: whether only the device knows the place of a token, so that one CUDA graph draws all of them; by
            default on CUDA. On the CPU, views of the keys so far are cheaper than masked buffers of all. Logits agree up to
            rounding.
    """

    def __init__(self, transformer: ArTransformer, graphs: GraphCache, place_on_device: bool | None = None) -> None:
        self.transformer, self.graphs, self.place_on_device = transformer, graphs, place_on_device
        self.models = InferenceModels(transformer)
        self._kept: tuple[tuple[Any, ...], Sequence[LayerCache]] = ((), ())
        self._generation = itertools.count()

    @torch.no_grad()
    def sample(self, labels_B: Tensor, settings: ArSamplingConfig, uniforms_BL: Tensor) -> Tensor:
        """Tokens of one image per label, int64 ``[B, L]``.

        Args:
            labels_B: int64 classes.
            settings: guidance and filters.
            uniforms_BL: one number in [0, 1) per token.
        """
        on_device = labels_B.is_cuda if self.place_on_device is None else self.place_on_device
        transformer = self.models.get(settings, labels_B.device)
        caches, key = self._kept_caches(labels_B, settings) if on_device else (self._new_caches(), ())
        draw = functools.partial(draw_token, transformer, caches, settings)
        places = transformer.order_L.split(1)
        tokens: list[Tensor] = []
        for place in range(transformer.length):
            # The first token has no predecessor, and with it a graph of its own.
            inputs = labels_B, uniforms_BL[:, place : place + 1], *tokens[-1:]
            tokens += self.graphs.call("token", draw, places[place], *inputs, key=key) if on_device else draw(place, *inputs)
        return torch.cat(tokens, dim=1)

    def _kept_caches(self, labels_B: Tensor, settings: ArSamplingConfig) -> tuple[Sequence[LayerCache], tuple[Any, ...]]:
        """The caches that graphs for such a batch read and write, and the key of those graphs.

        Only the last ones are kept. The key changes with them, since a graph of earlier ones would use freed memory.
        """
        wanted = labels_B.shape, labels_B.device, settings
        found, caches = self._kept
        if found[:-1] != wanted:
            found, caches = (*wanted, next(self._generation)), self._new_caches()
            self._kept = found, caches
        return caches, found

    def _new_caches(self) -> Sequence[LayerCache]:
        return [LayerCache(self.transformer.length) for _ in range(self.transformer.config.depth)]


class ArImageGenerator(BaselineGenerator):
    """Images from tokenizer and transformer; a trace has the raster after each quarter."""

    unguided = 1.0

    def __init__(
        self, tokenizer: ConvTokenizer, transformer: ArTransformer, settings: ArSamplingConfig, spec: ModelSpec
    ) -> None:
        assert isinstance(tokenizer.quantizer, FlatQuantizer)
        super().__init__(tokenizer, transformer, settings, spec)
        self.sampler = ArSampler(transformer, self.graphs)

    def _images(self, settings: ArSamplingConfig, labels_B: Tensor, seeds_B: Tensor, *, trace: bool) -> SampleResult:
        tokens_BL = self._sample(settings, labels_B, seeds_B)
        with part("decoder"):
            canvas_BChw, images_B3HW = self.graphs.call("decode", self._decode, tokens_BL)
        return SampleResult(images_B3HW, self._trace(canvas_BChw) if trace else None)

    def _tokens(self, settings: ArSamplingConfig, labels_B: Tensor, seeds_B: Tensor) -> TokenSequence:
        return TokenSequence((self._sample(settings, labels_B, seeds_B),))

    def _sample(self, settings: ArSamplingConfig, labels_B: Tensor, seeds_B: Tensor) -> Tensor:
        uniforms_BL = SeededNoise(seeds_B, self.device).uniform(self.sampler.transformer.length)
        return self.sampler.sample(labels_B, settings, uniforms_BL)

    def _decode(self, tokens_BL: Tensor) -> tuple[Tensor, Tensor]:
        """Canvas and uint8 images."""
        canvas_BChw = self.tokenizer.canvas(TokenSequence((tokens_BL,)), -1)
        return canvas_BChw, to_uint8(self.tokenizer.decode(canvas_BChw))

    def _trace(self, canvas_BChw: Tensor) -> tuple[StageTrace, ...]:
        """Images with zero latents at later positions."""
        length = self.sampler.transformer.length
        ends = [length * part // TRACE_PARTS for part in range(TRACE_PARTS + 1)]
        known_L = torch.arange(length, device=canvas_BChw.device).view(self.sampler.transformer.grid)
        return tuple(
            StageTrace(end - start, to_uint8(self.tokenizer.decode(canvas_BChw * (known_L < end))))
            for start, end in itertools.pairwise(ends)
        )
