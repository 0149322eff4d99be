"""Sampling in raster order with a key-value cache. B batch, L tokens, V codebook size."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from nvgbench.autoencoder.tokenizer import ConvTokenizer
from nvgbench.config.load import override_dataclass
from nvgbench.data.images import to_uint8
from nvgbench.sampling.filters import choose_tokens
from nvgbench.sampling.noise import SeededNoise
from nvgbench.types import ModelSpec, SampleRequest, SampleResult, StageTrace, TokenSequence
from nvgbench_baselines.ar.config import ArSamplingConfig
from nvgbench_baselines.ar.quantizer import FlatQuantizer
from nvgbench_baselines.ar.transformer import ArTransformer
from nvgbench_baselines.cache import LayerCache
from nvgbench_baselines.conditioning import checked_labels

# Number of equal parts of the raster after which a trace has a canvas.
TRACE_PARTS = 4


@torch.no_grad()
def sample(transformer: ArTransformer, labels_B: Tensor, settings: ArSamplingConfig, uniforms_BL: Tensor) -> Tensor:
    """Tokens of one image per label.

    Guidance: unconditional + s · (conditional - unconditional), both passes in one batch; none at s = 1 or without classes.

    Args:
        uniforms_BL: one number in [0, 1) per token.

    Returns:
        int64 tokens ``[B, L]``.
    """
    guided, batch = settings.guidance != 1.0 and bool((labels_B < transformer.num_classes).any()), len(labels_B)
    all_labels = torch.cat([labels_B, torch.full_like(labels_B, transformer.num_classes)]) if guided else labels_B
    caches = [LayerCache(transformer.length) for _ in range(transformer.config.depth)]
    tokens: list[Tensor] = []
    previous: Tensor | None = None
    for place in range(transformer.length):
        logits_BV = transformer.step(place, all_labels, previous, caches).float()
        if guided:
            conditional, unconditional = logits_BV[:batch], logits_BV[batch:]
            logits_BV = unconditional + settings.guidance * (conditional - unconditional)
        chosen_B1 = choose_tokens(
            logits_BV.unsqueeze(1),
            uniforms_BL[:, place : place + 1],
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=settings.top_p,
        )
        tokens.append(chosen_B1)
        previous = torch.cat([chosen_B1, chosen_B1]).squeeze(1) if guided else chosen_B1.squeeze(1)
    return torch.cat(tokens, dim=1)


class ArImageGenerator:
    """Implements `nvgbench.interfaces.ImageGenerator`."""

    def __init__(
        self, tokenizer: ConvTokenizer, transformer: ArTransformer, settings: ArSamplingConfig, spec: ModelSpec
    ) -> None:
        assert isinstance(tokenizer.quantizer, FlatQuantizer)
        self.spec = spec
        self.tokenizer = tokenizer
        self.transformer = transformer
        self.settings = settings

    @torch.no_grad()
    def generate(self, request: SampleRequest) -> SampleResult:
        """Images for the labels and seeds of ``request``; a trace has the raster after each quarter.

        Raises:
            InputError: a label that is not a class, a different number of seeds, an unknown or invalid setting.
        """
        settings = override_dataclass(self.settings, request.settings, "sampling")
        device = self.transformer.head.weight.device
        labels_B = checked_labels(request, self.transformer.num_classes, device)
        uniforms_BL = SeededNoise(request.seeds_B, device).uniform(self.transformer.length)
        tokens_BL = sample(self.transformer, labels_B, settings, uniforms_BL)
        canvas_BChw = self.tokenizer.canvas(TokenSequence((tokens_BL,)), -1)
        images_B3HW = to_uint8(self.tokenizer.decode(canvas_BChw))
        return SampleResult(images_B3HW, self._trace(canvas_BChw) if request.trace else None)

    def _trace(self, canvas_BChw: Tensor) -> tuple[StageTrace, ...]:
        """Images with zero latents at later positions."""
        length = self.transformer.length
        ends = [length * part // TRACE_PARTS for part in range(TRACE_PARTS + 1)]
        known_L = torch.arange(length, device=canvas_BChw.device).view(self.transformer.grid)
        return tuple(
            StageTrace(end - start, to_uint8(self.tokenizer.decode(canvas_BChw * (known_L < end))))
            for start, end in itertools.pairwise(ends)
        )
