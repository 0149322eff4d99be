"""Sampling: content and structure in turn, stage after stage (paper, Algorithm 2).

The order is content 0, structure 1, content 1, structure 2 … content K. The content of stage i and the structure of stage i + 1
use entry i of their guidance schedules.

Shape letters: B batch, L positions, C latent channels, K structure channels, V codebook size, n clusters of a stage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.nvg.config import NvgSamplingConfig
from nvgbench.nvg.generator import NvgGenerator
from nvgbench.nvg.quantizer import cluster_means
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure import split_clusters, structure_embedding
from nvgbench.sampling.filters import choose_tokens
from nvgbench.sampling.schedules import guidance_schedule, top_p_schedule
from nvgbench.types import TokenSequence


class Refines(Protocol):
    """The part of the quantizer that sampling needs: the update of the canvas by a stage's tokens."""

    def refine(self, indices_Bn: Tensor, structure_BL: Tensor, stage: int) -> Tensor: ...


@dataclass(frozen=True)
class GivenStructure:
    """Structure maps that are given instead of sampled, up to a stage.

    Attributes:
        structure_BL: int64 maps of the last given stage; coarser ones follow from them. One row serves all images.
        stage: that stage, 1 … K.
    """

    structure_BL: Tensor
    stage: int

    def for_batch(self, labels_B: Tensor, layout: StageLayout) -> GivenStructure:
        """The same with a row per image, on the labels' device.

        Raises:
            InputError: a wrong number of maps, another grid, or clusters of unequal size.
        """
        stage, structure_BL = layout.checked_stage(self.stage), self.structure_BL.to(labels_B.device)
        batch = len(labels_B)
        if structure_BL.ndim != 2 or len(structure_BL) not in (1, batch) or structure_BL.shape[1] != layout.positions:
            raise InputError(
                f"structure maps of shape {list(structure_BL.shape)}: expected [{batch}, {layout.positions}], "
                "or one row for all images"
            )
        expected_L = torch.arange(layout.positions, device=structure_BL.device) // (layout.positions // layout.tokens[stage])
        if not torch.equal(structure_BL.sort(dim=1).values, expected_L.expand_as(structure_BL)):
            raise InputError(f"a structure map of stage {stage} holds 0 to {layout.tokens[stage] - 1}, each equally often")
        return GivenStructure(structure_BL.expand(batch, -1), stage)


@dataclass(frozen=True)
class StageState:
    """The result of one stage.

    Attributes:
        structure_BL: the stage's structure map, int64.
        logits_BnV: guided token logits.
        final_BLC: prediction of the final canvas, with the class.
        canvas_BLC: canvas after the stage.
        scores_BLb: values that split this stage's clusters, around -1 … +1; None if the next structure map was given.
    """

    structure_BL: Tensor
    logits_BnV: Tensor
    final_BLC: Tensor
    canvas_BLC: Tensor
    scores_BLb: Tensor | None


@dataclass(frozen=True)
class Sample:
    """Sampled tokens, the final canvas ``[B, L, C]`` and, if requested, every stage."""

    tokens: TokenSequence
    canvas_BLC: Tensor
    stages: tuple[StageState, ...]


class NvgSampler:
    """Samples token sequences.

    Args:
        generator: in evaluation mode.
        quantizer: turns tokens into updates of the canvas.
        settings: guidance, filters, flow steps.
    """

    def __init__(self, generator: NvgGenerator, quantizer: Refines, settings: NvgSamplingConfig) -> None:
        self.generator, self.quantizer, self.settings = generator, quantizer, settings
        stages = generator.layout.stages
        self.content_guidance = guidance_schedule(*settings.content_guidance, stages)
        self.structure_guidance = guidance_schedule(*settings.structure_guidance, stages)
        self.top_p = top_p_schedule(*settings.top_p, stages)

    def sample(
        self,
        labels_B: Tensor,
        noise_BLK: Tensor,
        uniform: Callable[[int], Tensor],
        *,
        given: GivenStructure | None = None,
        keep_stages: bool = False,
    ) -> Sample:
        """One token sequence per label.

        Args:
            labels_B: int64 classes.
            noise_BLK: standard normal; every stage of an image starts its flow from this one noise map.
            uniform: called with n in a fixed order, returns numbers in [0, 1) ``[B, n]``.
            given: structure maps of the first stages; later ones are generated.
            keep_stages: return the state of every stage.
        """
        layout = self.generator.layout
        start = self.generator.content.start_1LC
        canvas_BLC = start.new_zeros((len(labels_B), *start.shape[1:]))
        structure_BL = torch.zeros_like(labels_B)[:, None].expand(-1, layout.positions)
        indices: list[Tensor] = []
        states: list[StageState] = []
        for stage in range(layout.stages):
            used_BL = structure_BL
            logits_BnV, final_BLC = self.content_logits(canvas_BLC, used_BL, stage, labels_B)
            indices.append(self._choose(logits_BnV, stage, uniform))
            canvas_BLC = canvas_BLC + self.quantizer.refine(indices[-1], used_BL, stage)
            scores_BLb = None
            if given is not None and stage < given.stage:
                structure_BL = layout.coarser(given.structure_BL, given.stage, stage + 1)
            elif stage < layout.last:
                scores_BLb = self.structure_scores(canvas_BLC, used_BL, stage, labels_B, noise_BLK)
                structure_BL = self._split(used_BL, stage, scores_BLb, uniform)
            if keep_stages:
                states.append(StageState(used_BL, logits_BnV, final_BLC, canvas_BLC, scores_BLb))
        return Sample(TokenSequence(tuple(indices), structure_BL), canvas_BLC, tuple(states))

    def content_logits(self, canvas_BLC: Tensor, structure_BL: Tensor, stage: int, labels_B: Tensor) -> tuple[Tensor, Tensor]:
        """Guided logits ``[B, n, V]`` of a stage, and the prediction of the final canvas with the class.

        Guidance acts on the logits: each branch has its own prediction, residual and cluster means.
        """
        content, layout, batch = self.generator.content, self.generator.layout, len(labels_B)
        scale = self.content_guidance[stage]
        se_BLK = structure_embedding(structure_BL, layout.known(stage), layout.channels)
        classes, canvas, se, clusters = self._branches(scale, labels_B, canvas_BLC, se_BLK, structure_BL)
        final = content(canvas, se, torch.full_like(classes, stage), classes)
        logits = content.token_logits(cluster_means(final - canvas, clusters, layout.tokens[stage]))
        return _guided(logits, scale), final[:batch]

    def structure_scores(
        self, canvas_BLC: Tensor, structure_BL: Tensor, stage: int, labels_B: Tensor, noise_BLK: Tensor
    ) -> Tensor:
        """The values ``[B, L, b]`` that split the clusters of ``stage``, by the guided structure generator."""
        generator, layout, scale = self.generator, self.generator.layout, self.structure_guidance[stage]
        se_BLK = structure_embedding(structure_BL, layout.known(stage), layout.channels)
        classes, canvas, se = self._branches(scale, labels_B, canvas_BLC, se_BLK)
        stages = torch.full_like(classes, stage)

        def predict(z_BLK: Tensor, t: float) -> Tensor:
            times = torch.full(classes.shape, t, dtype=torch.float32, device=classes.device)
            (z,) = self._repeat(scale, z_BLK)
            return _guided(generator.structure.velocity(z, times, canvas, se, stages, classes), scale)

        return generator.flow.scores(predict, se_BLK, stage, noise_BLK, self.settings)

    def _choose(self, logits_BnV: Tensor, stage: int, uniform: Callable[[int], Tensor]) -> Tensor:
        settings = self.settings
        return choose_tokens(
            logits_BnV,
            uniform(logits_BnV.shape[1]),
            temperature=settings.temperature,
            top_k=settings.top_k,
            top_p=self.top_p[stage],
        )

    def _split(self, structure_BL: Tensor, stage: int, scores_BLb: Tensor, uniform: Callable[[int], Tensor]) -> Tensor:
        layout = self.generator.layout
        for bit, scores_BL in enumerate(scores_BLb.unbind(-1)):
            gumbel = self.settings.gumbel and stage < layout.structure_stages
            uniforms_BL = uniform(layout.positions) if gumbel else None
            structure_BL = split_clusters(structure_BL, layout.known(stage) + bit, scores_BL, uniforms_BL=uniforms_BL)
        return structure_BL

    def _branches(self, scale: float, labels_B: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Labels and tensors as one batch with both branches of guidance."""
        if scale == 1.0:
            return labels_B, *tensors
        return torch.cat((labels_B, torch.full_like(labels_B, self.generator.num_classes))), *self._repeat(scale, *tensors)

    @staticmethod
    def _repeat(scale: float, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tensors if scale == 1.0 else tuple(torch.cat((tensor, tensor)) for tensor in tensors)


def _guided(both: Tensor, scale: float) -> Tensor:
    """unconditional + scale·(conditional - unconditional); at scale 1 there is only the conditional branch."""
    if scale == 1.0:
        return both
    conditional, unconditional = both.chunk(2)
    return unconditional + scale * (conditional - unconditional)
