"""Sampling with a key-value cache, compared with stored samples and with a pass without cache.

Shape letters: B batch, L tokens of all scales, n tokens of one scale, C latent channels, V codebook size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nvgbench.parity.ledger import CHAINED_CHOICES, SINGLE_CHOICES, Ledger
from nvgbench_baselines.var.config import VarSamplingConfig
from nvgbench_baselines.var.sampler import VarSamples, sample
from nvgbench_baselines.var.transformer import VarTransformer
from nvgbench_baselines.var.verification.models import Models
from nvgbench_baselines.var.verification.teacher import check_gap, variants

# The fixture's tolerance for random smoothing, which takes logarithms of the noise.
_SMOOTH_TOLERANCE = 1e-4
# Defaults of the samples.
_GUIDANCE = 1.5
_FILTERS = {"top_k": 20, "top_p": 0.96}
_STREAM = "the draws need the CPU generator stream of the torch that made the fixture, and this torch draws others"


class GlobalDraws:
    """Draws as the published code does: multinomial, then exponential, from one CPU generator, in float32."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def tokens(self, logits_BnV: Tensor) -> Tensor:
        probabilities = logits_BnV.softmax(dim=-1).flatten(0, 1)
        drawn = torch.multinomial(_float32(probabilities), 1, replacement=True, generator=self.generator)
        return drawn.view(logits_BnV.shape[:2]).to(logits_BnV.device)

    def gumbel(self, logits_BnV: Tensor) -> Tensor:
        noise = torch.empty_like(_float32(logits_BnV)).exponential_(generator=self.generator)
        return -noise.log().to(logits_BnV)


def _float32(values: Tensor) -> Tensor:
    """On the CPU in single precision: the random stream depends on the dtype."""
    return torch.from_numpy(values.detach().cpu().numpy().astype(np.float32))


@dataclass(frozen=True)
class _Drawn:
    """A sample, and its guided logits ``[B, L, V]`` from the passes with cache."""

    samples: VarSamples
    logits_BLV: Tensor

    @property
    def tokens_BL(self) -> Tensor:
        return torch.cat(self.samples.tokens.indices, dim=1)


def check(ledger: Ledger, models: Models) -> None:
    """All samples of the fixture."""
    settings = ledger.fixture.settings
    for prefix in sorted(prefix for prefix in settings if prefix == "ar" or prefix.startswith("ar_")):
        if ledger.named(f"{prefix}_"):
            _check_argmax(ledger, models, prefix, settings[prefix].get("guidance", _GUIDANCE))
    for prefix in variants(ledger):
        if ledger.has(f"{prefix}_ar_tokens", f"{prefix}_ar_fhat"):
            drawn = _draw(ledger, models, models.make_transformer(f"{prefix}_state_dict"), guidance=_GUIDANCE)
            _check_drawn(ledger, f"{prefix}_ar", drawn)
            check_gap(ledger, f"{prefix}_ar_margin_min", drawn.logits_BLV)
    if ledger.has("smooth_top1_tokens", "smooth_top1_fhat"):
        _check_drawn(ledger, "smooth_top1", _draw(ledger, models, models.transformer, more_smooth=True))
    for seed in sorted({settings[prefix]["seed"] for prefix in settings if prefix.startswith("rng")}):
        _check_stream(ledger, models, seed)


def _draw(ledger: Ledger, models: Models, module: VarTransformer, seed: int = 0, **settings: Any) -> _Drawn:
    """Sample with the cache, and collect the outputs of all scales."""
    config = VarSamplingConfig(**{"guidance": _GUIDANCE, "top_k": 1, "top_p": 1.0, **settings})
    outputs: list[Tensor] = []
    hook = module.head.register_forward_hook(lambda _, args, output: outputs.append(output.float()))
    try:
        samples = sample(module, models.quantizer, models.labels_B, config, GlobalDraws(seed))
    finally:
        hook.remove()
    if config.guidance > 0:
        last = max(len(outputs) - 1, 1)
        strengths = [config.guidance * stage / last for stage in range(len(outputs))]
        halves = [output.chunk(2) for output in outputs]
        outputs = [(1 + t) * given - t * without for t, (given, without) in zip(strengths, halves, strict=True)]
    return _Drawn(samples, torch.cat(outputs, dim=1))


def _check_drawn(ledger: Ledger, prefix: str, drawn: _Drawn, excuse: str = "", smooth: bool = False) -> None:
    """Tokens and canvas of a sample.

    A smooth canvas adds up softmaxes of noisy logits at temperatures from 0.27 down to 0.0135. Near a tie of two codes, that
    turns half precision's rounding of the logits into another mixture, even if all drawn tokens agree. With random rounding of
    2^-10 of the largest logit, that moved one entry in a thousand beyond the limit, by up to 0.19 of the largest one.
    """
    ledger.equal(f"{prefix}_tokens", drawn.tokens_BL, rounded=CHAINED_CHOICES, excuse=excuse)
    ledger.close(
        f"{prefix}_fhat",
        drawn.samples.canvases[-1],
        tolerance=_SMOOTH_TOLERANCE if smooth else None,
        excuse=excuse,
        rounded=SINGLE_CHOICES if smooth else 0.0,
        follows=[f"{prefix}_tokens"],
    )


def _check_argmax(ledger: Ledger, models: Models, prefix: str, guidance: float) -> None:
    """Tokens by argmax, canvas, image, inputs of each scale, and guided logits with and without cache."""
    drawn = _draw(ledger, models, models.transformer, guidance=guidance)
    _check_drawn(ledger, prefix, drawn)
    check_gap(ledger, f"{prefix}_margin_min", drawn.logits_BLV)
    follows, canvases = [f"{prefix}_tokens"], drawn.samples.canvases
    with torch.no_grad():
        if ledger.has(f"{prefix}_img"):
            ledger.close(f"{prefix}_img", models.tokenizer.decode(canvases[-1]).add(1).mul(0.5), follows=follows)
        if ledger.has(f"{prefix}_next_maps"):
            maps = [models.quantizer.shrink(canvases[stage], stage + 1) for stage in range(len(models.scales) - 1)]
            ledger.close(f"{prefix}_next_maps", torch.cat(maps, dim=1).transpose(1, 2), follows=follows)
        name = f"{prefix}_logits_cfg_rows"
        if ledger.has(name):
            ledger.close(name, models.kept(name, drawn.logits_BLV), "with the cache", follows=follows)
            tokens_BL = ledger.given(f"{prefix}_tokens") if ledger.has(f"{prefix}_tokens") else drawn.tokens_BL
            ledger.close(name, models.kept(name, _uncached(ledger, models, tokens_BL, guidance)), "without the cache")


def _uncached(ledger: Ledger, models: Models, tokens_BL: Tensor, guidance: float) -> Tensor:
    """Guided logits of all scales in one masked pass over the sampled tokens."""
    inputs = models.quantizer.teacher_inputs(models.split(tokens_BL))
    module, labels_B = models.transformer, models.labels_B
    conditional_BLV = module(labels_B, inputs).float()
    unconditional_BLV = module(torch.full_like(labels_B, models.classes), inputs).float()
    strength_1L1 = guidance * module.stage_L[None, :, None] / max(len(models.scales) - 1, 1)
    return (1 + strength_1L1) * conditional_BLV - strength_1L1 * unconditional_BLV


def _check_stream(ledger: Ledger, models: Models, seed: int) -> None:
    """Random draws. If one set of tokens or one canvas agrees, the random stream is the same and all must agree."""
    settings = ledger.fixture.settings
    found = {}
    for prefix in sorted(settings):
        if prefix.startswith("rng") and settings[prefix]["seed"] == seed and ledger.has(f"{prefix}_tokens", f"{prefix}_fhat"):
            found[prefix] = _draw(ledger, models, models.transformer, **{**_FILTERS, **settings[prefix]})
    same = any(_is_of_stream(ledger, prefix, drawn) for prefix, drawn in found.items())
    for prefix, drawn in found.items():
        smooth = settings[prefix].get("more_smooth", False)
        _check_drawn(ledger, prefix, drawn, excuse="" if same else _STREAM, smooth=smooth)
        if not smooth and ledger.has(f"{prefix}_tokens"):
            canvas_BChw = models.quantizer.canvases(models.split(ledger.given(f"{prefix}_tokens")))[:, -1]
            ledger.close(f"{prefix}_fhat", canvas_BChw, "of the stored tokens")


def _is_of_stream(ledger: Ledger, prefix: str, drawn: _Drawn) -> bool:
    """Whether this was drawn from the fixture's random stream: another one changes nearly all tokens, not just one."""
    if ledger.has(f"{prefix}_tokens"):
        stored_BL = ledger.given(f"{prefix}_tokens")
        if stored_BL.shape == drawn.tokens_BL.shape and int((stored_BL != drawn.tokens_BL).sum()) <= 1:
            return True
    if ledger.has(f"{prefix}_fhat"):
        stored_BChw, canvas_BChw = ledger.given(f"{prefix}_fhat"), drawn.samples.canvases[-1].to(torch.float32)
        return stored_BChw.shape == canvas_BChw.shape and torch.allclose(
            stored_BChw.float(), canvas_BChw, rtol=0, atol=_SMOOTH_TOLERANCE * float(stored_BChw.abs().max())
        )
    return False
