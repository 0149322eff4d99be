"""Generated structure maps beside real ones: how they differ among themselves, and how well they predict the real bits.

Every split is drawn several times from the canvas and the structure map of a real image, so that nothing but the split differs.

Shape letters: N images, M draws, T structure stages, L positions, K structure channels, b channels decided by one split.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nvgbench.ablations.study import Context, Row, StudiedRun
from nvgbench.ablations.subject import held_out
from nvgbench.config.load import override_dataclass
from nvgbench.data.loader import sequential_batches
from nvgbench.nvg.image_generator import NvgImageGenerator
from nvgbench.nvg.objective import canvases_of
from nvgbench.nvg.sampler import NvgSampler
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure import split_clusters, structure_embedding
from nvgbench.sampling.noise import SeededNoise
from nvgbench.types import TokenSequence

DRAWS = 8
"""Splits drawn per image and stage."""
_BATCH = 64
_BINS = 10


@dataclass(frozen=True)
class RealStages:
    """What the structure generator is given for held-out images, and what is true.

    Attributes:
        canvas_NTLC: canvas after each structure stage.
        structure_NL: maps of the last stage.
        labels_N: classes.
    """

    canvas_NTLC: Tensor
    structure_NL: Tensor
    labels_N: Tensor


def real_stages(run: StudiedRun, context: Context, generator: NvgImageGenerator) -> RealStages:
    """Canvases and structure maps of the context's held-out images."""
    canvases, maps, labels = [], [], []
    layout = generator.generator.layout
    with torch.no_grad():
        for batch in sequential_batches(held_out(run.folder, context), _BATCH):
            tokens = generator.tokenizer.encode(batch.images_B3HW.to(context.device))
            assert isinstance(tokens, TokenSequence)
            assert tokens.structure_BL is not None
            canvases.append(canvases_of(generator.tokenizer, tokens)[0][:, 1 : layout.structure_stages + 1])
            maps.append(tokens.structure_BL)
            labels.append(batch.labels_B)
    labels_N = torch.cat(labels)
    if run.folder.config.data.classes == "none":
        labels_N = torch.full_like(labels_N, generator.generator.num_classes)
    return RealStages(torch.cat(canvases), torch.cat(maps), labels_N.to(context.device))


def map_rows(generator: NvgImageGenerator, real: RealStages, settings: Mapping[str, Any], seed: int) -> list[Row]:
    """One row per stage, without guidance: a guided split is meant to differ from real ones.

    Columns: ``agreement`` of two draws (share of equal bits), ``cross_entropy`` (bits per position) and ``calibration`` error
    of the draws' frequencies as probabilities of the real bits, ``entropy`` of 2 x 2 patterns and ``real_entropy``.
    """
    own = override_dataclass(generator.settings, dict(settings), "sampling")
    own = dataclasses.replace(own, structure_guidance=(1.0, 1.0))
    sampler = NvgSampler(generator.generator, generator.quantizer, own)
    layout = generator.generator.layout
    rows = []
    for stage in range(layout.structure_stages):
        real_NLb = _bits(layout.coarser(real.structure_NL, layout.last, stage + 1), stage, layout)
        drawn_MNLb = torch.stack(list(_draws(sampler, real, stage, own.gumbel, seed)))
        ones_NLb = drawn_MNLb.sum(0)
        rows.append(
            {
                "stage": stage,
                "agreement": _agreement(ones_NLb, len(drawn_MNLb)),
                "cross_entropy": _cross_entropy(ones_NLb, len(drawn_MNLb), real_NLb),
                "calibration": _calibration_error(ones_NLb / len(drawn_MNLb), real_NLb),
                "entropy": sum(pattern_entropy(one, layout) for one in drawn_MNLb) / len(drawn_MNLb),
                "real_entropy": pattern_entropy(real_NLb, layout),
            }
        )
    return rows


def _draws(sampler: NvgSampler, real: RealStages, stage: int, gumbel: bool, seed: int) -> Iterator[Tensor]:
    """Splits of every image's real clusters, float32 ``[N, L, b]`` of 0 and 1."""
    layout, count = sampler.generator.layout, len(real.labels_N)
    parent_NL = layout.coarser(real.structure_NL, layout.last, stage)
    for draw in range(DRAWS):
        seeds = [(seed * DRAWS + draw) * count + image for image in range(count)]
        noise = SeededNoise(seeds, real.labels_N.device)
        noise_NLK = noise.normal(layout.positions, layout.channels)
        uniforms = [noise.uniform(layout.positions) for _ in range(layout.halvings(stage) if gumbel else 0)]
        with torch.no_grad():
            scores_NLb = torch.cat(
                [
                    sampler.structure_scores(
                        real.canvas_NTLC[part, stage], parent_NL[part], stage, real.labels_N[part], noise_NLK[part]
                    )
                    for part in (slice(start, start + _BATCH) for start in range(0, count, _BATCH))
                ]
            )
        child_NL = parent_NL
        for bit, scores_NL in enumerate(scores_NLb.unbind(-1)):
            uniforms_NL = uniforms[bit] if gumbel else None
            child_NL = split_clusters(child_NL, layout.known(stage) + bit, scores_NL, uniforms_BL=uniforms_NL)
        yield _bits(child_NL, stage, layout)


def _bits(structure_NL: Tensor, stage: int, layout: StageLayout) -> Tensor:
    """The bits that tell the clusters of ``stage`` + 1 from those of ``stage``, float32 ``[N, L, b]`` of 0 and 1."""
    after = layout.known(stage + 1)
    return structure_embedding(structure_NL, after, layout.channels)[..., layout.known(stage) : after] / 2


def _agreement(ones: Tensor, draws: int) -> float:
    """Share of equal bits in a pair of draws, mean over pairs, images and positions."""
    equal = ones * (ones - 1) + (draws - ones) * (draws - ones - 1)
    return float(equal.mean() / (draws * (draws - 1)))


def _cross_entropy(ones: Tensor, draws: int, real: Tensor) -> float:
    """Bits per position under the draws' frequencies, with half a draw added to each side so that none is 0."""
    probability = (ones + 0.5) / (draws + 1)
    return float(-torch.where(real > 0, probability, 1 - probability).log2().mean())


def _calibration_error(probability: Tensor, real: Tensor) -> float:
    """Mean |frequency of real ones - probability| over bins of probability, weighted by their size."""
    places = (probability * _BINS).long().clamp(max=_BINS - 1).flatten()
    sums = torch.zeros(_BINS).scatter_add_(0, places.cpu(), (real - probability).flatten().cpu())
    return float(sums.abs().sum() / len(places))


def pattern_entropy(bits_NLb: Tensor, layout: StageLayout) -> float:
    """Shannon entropy, bits, of the 2 x 2 patterns of a split over images and places; 4 if all are equally likely."""
    height, width = layout.grid
    if min(height, width) < 2:
        return math.nan
    maps = bits_NLb.long().unflatten(1, (height, width))
    codes = maps[:, :-1, :-1] + 2 * maps[:, :-1, 1:] + 4 * maps[:, 1:, :-1] + 8 * maps[:, 1:, 1:]
    counts = Counter(codes.flatten().tolist())
    total = sum(counts.values())
    return -sum(count / total * math.log2(count / total) for count in counts.values())
