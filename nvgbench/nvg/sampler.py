"""Sampling: content and structure in turn, stage after stage (paper, Algorithm 2).

The order is content 0, structure 1, content 1, structure 2 … content K. The content of stage i and the structure of stage i + 1
use entry i of their guidance schedules.

Shape letters: B batch, L positions, C latent channels, K structure channels, V codebook size, n clusters of a stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from nvgbench.errors import InputError
from nvgbench.nvg.config import NvgSamplingConfig
from nvgbench.nvg.generator import NvgGenerator
from nvgbench.nvg.quantizer import cluster_means
from nvgbench.nvg.rope import Rotation
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure import split_clusters, structure_embedding
from nvgbench.sampling.capture import Calls, GraphCache
from nvgbench.sampling.filters import choose_tokens
from nvgbench.sampling.parts import part
from nvgbench.sampling.schedules import guidance_schedule, top_p_schedule
from nvgbench.types import TokenSequence


class Refines(Protocol):
    """The part of the quantizer that sampling needs: the update of the canvas by a stage's tokens."""

    def refine(self, indices_Bn: Tensor, structure_BL: Tensor, stage: int) -> Tensor: ...


@dataclass(frozen=True)
class GivenStructure:
    """Structure maps that are given instead of sampled, up to a stage, and codes if they are given as well.

    Attributes:
        structure_BL: int64 maps of the last given stage; coarser ones follow from them. One row serves all images.
        stage: that stage, 1 … K; 0 if only codes are given.
        indices: int64 codes ``[B, n]`` of the first stages, for given or sampled structure.
    """

    structure_BL: Tensor
    stage: int
    indices: tuple[Tensor, ...] = ()

    def for_batch(self, labels_B: Tensor, layout: StageLayout) -> GivenStructure:
        """The same with a row per image, on the labels' device.

        Raises:
            InputError: a wrong number of maps, another grid, or clusters of unequal size.
        """
        stage = self.stage if self.indices and self.stage == 0 else layout.checked_stage(self.stage)
        structure_BL = self.structure_BL.to(labels_B.device)
        batch = len(labels_B)
        if structure_BL.ndim != 2 or len(structure_BL) not in (1, batch) or structure_BL.shape[1] != layout.positions:
            raise InputError(
                f"structure maps of shape {list(structure_BL.shape)}: expected [{batch}, {layout.positions}], "
                "or one row for all images"
            )
        expected_L = torch.arange(layout.positions, device=structure_BL.device) // (layout.positions // layout.tokens[stage])
        if not torch.equal(structure_BL.sort(dim=1).values, expected_L.expand_as(structure_BL)):
            raise InputError(f"a structure map of stage {stage} holds 0 to {layout.tokens[stage] - 1}, each equally often")
        tokens = tuple(indices_Bn.shape[-1] for indices_Bn in self.indices)
        if tokens != layout.tokens[: len(tokens)] or any(len(indices_Bn) != batch for indices_Bn in self.indices):
            raise InputError(
                f"codes of {tokens} tokens: expected those of the first stages, {layout.tokens}, for {batch} images"
            )
        indices = tuple(indices_Bn.to(labels_B.device) for indices_Bn in self.indices)
        return GivenStructure(structure_BL.expand(batch, -1), stage, indices)

    def rows(self, rows_R: Tensor) -> GivenStructure:
        """The same of some images."""
        return GivenStructure(self.structure_BL[rows_R], self.stage, tuple(indices_Bn[rows_R] for indices_Bn in self.indices))


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
        graphs: how the functions of a stage are called; as they are by default. A cache can serve samplers with other settings,
            but with the same generator and quantizer only.

    Attributes:
        content_guidance, structure_guidance, top_p: of each stage.
    """

    def __init__(
        self, generator: NvgGenerator, quantizer: Refines, settings: NvgSamplingConfig, graphs: Calls | None = None
    ) -> None:
        self.generator, self.quantizer, self.settings = generator, quantizer, settings
        self.graphs: Calls = graphs or GraphCache(enabled=False)
        stages = generator.layout.stages
        self.content_guidance = guidance_schedule(*settings.content_guidance, stages)
        self.structure_guidance = guidance_schedule(*settings.structure_guidance, stages)
        self.top_p = top_p_schedule(*settings.top_p, stages)
        times = torch.tensor(generator.flow.evaluations(settings), dtype=torch.float32)
        self._times_T = (times[:, 0] if times.shape[1] == 1 else times).to(generator.content.start_1LC.device)

    def sample(
        self,
        labels_B: Tensor,
        noise_BLK: Tensor,
        uniform: Callable[[int], Tensor],
        *,
        canvas_noise_BLC: Tensor | None = None,
        given: GivenStructure | None = None,
        keep_stages: bool = False,
    ) -> Sample:
        """One token sequence per label (Algorithm 2).

        All random numbers are drawn first; the rest is functions of tensors, called through ``graphs``.

        Args:
            labels_B: int64 classes.
            noise_BLK: standard normal; every stage of an image starts its flow from this one noise map.
            uniform: called with n in a fixed order, returns numbers in [0, 1) ``[B, n]``.
            canvas_noise_BLC: standard normal, for models whose canvas is noised; the same for every stage of an image.
            given: structure maps of the first stages; later ones are generated.
            keep_stages: return the state of every stage.
        """
        layout = self.generator.layout
        draws = [self._draw(stage, uniform, given) for stage in range(layout.stages)]
        labels_R = self._both(labels_B)
        with part("content"):
            vectors = self._content_vectors(labels_R)
        scales_S = self._structure_scales()
        start = self.generator.content.start_1LC
        canvas_BLC = start.new_zeros((len(labels_B), *start.shape[1:]))
        noise = () if canvas_noise_BLC is None else (canvas_noise_BLC,)
        structure_BL = torch.zeros_like(labels_B)[:, None].expand(-1, layout.positions)
        indices: list[Tensor] = []
        states: list[StageState] = []
        for stage, draw in enumerate(draws):
            used_BL = structure_BL
            fixed_Bn = given.indices[stage] if given is not None and stage < len(given.indices) else None
            with part("content"):
                before_BLC = canvas_BLC
                if fixed_Bn is None or keep_stages:
                    tokens_Bn, canvas_BLC, *predicted = self._content(
                        stage, canvas_BLC, used_BL, labels_R, vectors[stage], draw.tokens_Bn, *noise, keep=keep_stages
                    )
                if fixed_Bn is not None:
                    tokens_Bn, canvas_BLC = fixed_Bn, before_BLC + self.quantizer.refine(fixed_Bn, used_BL, stage)
            indices.append(tokens_Bn)
            scores_BLb = None
            if given is not None and stage < given.stage:
                structure_BL = layout.coarser(given.structure_BL, given.stage, stage + 1)
            elif stage < layout.last:
                with part("structure"):
                    scores_BLb = self._scores(stage, canvas_BLC, used_BL, labels_R, noise_BLK, scales_S[stage])
                    structure_BL = self._split(stage, used_BL, scores_BLb, draw.gumbel)
            if keep_stages:
                logits_BnV, final_BLC = predicted
                states.append(StageState(used_BL, logits_BnV, final_BLC, canvas_BLC, scores_BLb))
        return Sample(TokenSequence(tuple(indices), structure_BL), canvas_BLC, tuple(states))

    def content_logits(self, canvas_BLC: Tensor, structure_BL: Tensor, stage: int, labels_B: Tensor) -> tuple[Tensor, Tensor]:
        """Guided logits ``[B, n, V]`` of a stage, and the prediction of the final canvas with the class.

        Guidance acts on the logits: each branch has its own prediction, residual and cluster means.
        """
        labels_R = self._both(labels_B)
        return self._content_logits(stage, canvas_BLC, structure_BL, labels_R, self._content_vectors(labels_R)[stage])

    def structure_scores(
        self, canvas_BLC: Tensor, structure_BL: Tensor, stage: int, labels_B: Tensor, noise_BLK: Tensor
    ) -> Tensor:
        """The values ``[B, L, b]`` that split the clusters of ``stage``, by the guided structure generator."""
        scale = self._structure_scales()[stage]
        return self._scores(stage, canvas_BLC, structure_BL, self._both(labels_B), noise_BLK, scale)

    def _draw(self, stage: int, uniform: Callable[[int], Tensor], given: GivenStructure | None) -> _Draw:
        """The random numbers of a stage; their order is part of the sampler's results."""
        layout = self.generator.layout
        tokens_Bn = uniform(layout.tokens[stage])
        generated = stage < layout.structure_stages and (given is None or stage >= given.stage)
        halvings = layout.halvings(stage) if self.settings.gumbel and generated else 0
        return _Draw(tokens_Bn, tuple(uniform(layout.positions) for _ in range(halvings)))

    def _both(self, labels_B: Tensor) -> Tensor:
        """The labels of both branches of guidance: the classes, then "no class"."""
        return torch.cat((labels_B, torch.full_like(labels_B, self.generator.num_classes)))

    def _structure_scales(self) -> Tensor:
        start = self.generator.content.start_1LC
        return torch.tensor(self.structure_guidance, dtype=start.dtype, device=start.device)

    def _content_vectors(self, labels_R: Tensor) -> Sequence[Tensor]:
        content = self.generator.content
        branches = [_rows(labels_R, scale) for scale in self.content_guidance]
        return self.graphs.call(
            "content vectors", lambda labels: tuple(content.stage_vectors(labels, branches)), labels_R, key=tuple(branches)
        )

    def _content(
        self,
        stage: int,
        canvas_BLC: Tensor,
        structure_BL: Tensor,
        labels_R: Tensor,
        vectors_RPW: Tensor,
        uniforms_Bn: Tensor,
        *noise: Tensor,
        keep: bool,
    ) -> tuple[Tensor, ...]:
        """Tokens of a stage and the canvas after it; with ``keep`` also logits and the prediction of the final canvas."""
        temperature, top_k, top_p = self.settings.temperature, self.settings.top_k, self.top_p[stage]

        def run(
            canvas_BLC: Tensor,
            structure_BL: Tensor,
            labels_R: Tensor,
            vectors_RPW: Tensor,
            uniforms_Bn: Tensor,
            *noise: Tensor,
        ) -> tuple[Tensor, ...]:
            logits_BnV, final_BLC = self._content_logits(stage, canvas_BLC, structure_BL, labels_R, vectors_RPW, *noise)
            tokens_Bn = choose_tokens(logits_BnV, uniforms_Bn, temperature=temperature, top_k=top_k, top_p=top_p)
            with part("quantizer"):
                after_BLC = canvas_BLC + self.quantizer.refine(tokens_Bn, structure_BL, stage)
            return (tokens_Bn, after_BLC, logits_BnV, final_BLC) if keep else (tokens_Bn, after_BLC)

        key = (stage, self.content_guidance[stage], temperature, top_k, top_p, keep)
        return self.graphs.call("content", run, canvas_BLC, structure_BL, labels_R, vectors_RPW, uniforms_Bn, *noise, key=key)

    def _content_logits(
        self, stage: int, canvas_BLC: Tensor, structure_BL: Tensor, labels_R: Tensor, vectors_RPW: Tensor, *noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        content, layout, batch = self.generator.content, self.generator.layout, len(canvas_BLC)
        scale = self.content_guidance[stage]
        classes = labels_R[: _rows(labels_R, scale)]
        se_BLK = structure_embedding(structure_BL, layout.known(stage), layout.channels)
        canvas, se, clusters, *noise_R = _repeated(len(classes), canvas_BLC, se_BLK, structure_BL, *noise)
        final = content.predict_modulated(canvas, se, torch.full_like(classes, stage), classes, vectors_RPW, *noise_R)
        logits = content.token_logits(cluster_means(final - canvas, clusters, layout.tokens[stage]))
        return (logits if scale == 1.0 else _guided(logits, scale)), final[:batch]

    def _scores(
        self, stage: int, canvas_BLC: Tensor, structure_BL: Tensor, labels_R: Tensor, noise_BLK: Tensor, scale: Tensor
    ) -> Tensor:
        """The structure's scores at a stage: what is the same at all passes is computed first."""
        layout, structure, flow = self.generator.layout, self.generator.structure, self.generator.flow
        se_BLK = structure_embedding(structure_BL, layout.known(stage), layout.channels)
        if stage >= layout.structure_stages:
            return flow.scores(_no_network, se_BLK, stage, noise_BLK, self.settings)
        classes = labels_R[: _rows(labels_R, self.structure_guidance[stage])]

        def conditions(se_BLK: Tensor, classes: Tensor, times_T: Tensor) -> tuple[Tensor, ...]:
            (se,) = _repeated(len(classes), se_BLK)
            return structure.rope(se).unit_B1NP2, structure.flow_vectors(times_T, torch.full_like(classes, stage), classes)

        def velocity(
            z_BLK: Tensor, canvas_BLC: Tensor, classes: Tensor, unit: Tensor, vectors_RPW: Tensor, scale: Tensor
        ) -> tuple[Tensor]:
            z, canvas = _repeated(len(classes), z_BLK, canvas_BLC)
            both = structure.velocity_modulated(z, canvas, classes, Rotation(unit), vectors_RPW)
            return (_guided(both, scale) if len(both) > len(z_BLK) else both,)

        unit, vectors_TRPW = self.graphs.call("flow conditions", conditions, se_BLK, classes, self._times_T, key=stage)

        def predict(z_BLK: Tensor, step: int) -> Tensor:
            return self.graphs.call("velocity", velocity, z_BLK, canvas_BLC, classes, unit, vectors_TRPW[step], scale)[0]

        return flow.scores(predict, se_BLK, stage, noise_BLK, self.settings)

    def _split(self, stage: int, structure_BL: Tensor, scores_BLb: Tensor, gumbel: tuple[Tensor, ...]) -> Tensor:
        layout = self.generator.layout

        def run(structure_BL: Tensor, scores_BLb: Tensor, *gumbel: Tensor) -> tuple[Tensor]:
            for bit, scores_BL in enumerate(scores_BLb.unbind(-1)):
                uniforms_BL = gumbel[bit] if gumbel else None
                structure_BL = split_clusters(structure_BL, layout.known(stage) + bit, scores_BL, uniforms_BL=uniforms_BL)
            return (structure_BL,)

        return self.graphs.call("split", run, structure_BL, scores_BLb, *gumbel, key=stage)[0]


class _Draw(NamedTuple):
    """Random numbers of a stage: for its tokens, and for each halving of the clusters if the split is random."""

    tokens_Bn: Tensor
    gumbel: tuple[Tensor, ...]


def _rows(labels_R: Tensor, scale: float) -> int:
    """Rows of a stage with this guidance; at a scale of 1 there is only the conditional branch."""
    return len(labels_R) // 2 if scale == 1.0 else len(labels_R)


def _repeated(rows: int, *tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors for both branches of guidance if there are twice as many rows."""
    return tensors if rows == len(tensors[0]) else tuple(torch.cat((tensor, tensor)) for tensor in tensors)


def _guided(both: Tensor, scale: float | Tensor) -> Tensor:
    """unconditional + scale·(conditional - unconditional)."""
    conditional, unconditional = both.chunk(2)
    return unconditional + scale * (conditional - unconditional)


def _no_network(z_BLK: Tensor, step: int) -> Tensor:
    raise AssertionError("the last split is decided by the noise")
