"""The training objective: content (paper, equation 3), structure, feature alignment.

Shape letters: B batch, S stages (K + 1), T structure stages (K - 1), L positions, C latent channels, K structure channels,
V codebook size, N clusters of all stages, F channels of the alignment's target, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from nvgbench.interfaces import Objective
from nvgbench.nvg.alignment import alignment_losses
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.generator import GeneratorOutput, NvgGenerator
from nvgbench.nvg.structure_generator import StageConditions, StructureGenerator
from nvgbench.types import TokenBatch, TokenSequence


class Canvases(Protocol):
    """The part of a tokenizer that training needs."""

    def canvases(self, tokens: TokenSequence) -> Tensor: ...


class AlignmentTarget(Protocol):
    """Images in [-1, 1] to the target features ``[B, L, F]`` of the alignment."""

    features: int

    def __call__(self, images_B3HW: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class StageLosses:
    """Loss terms per stage, each a mean over images, positions and channels (or clusters).

    Attributes:
        canvas_S: squared error of the predicted final canvas.
        tokens_S: cross-entropy of the stage's tokens, nats.
        accuracy_S: share of tokens whose most likely code is correct; without gradient.
        structure_T: the structure's loss, see `nvgbench.nvg.structure_flow`.
    """

    canvas_S: Tensor
    tokens_S: Tensor
    accuracy_S: Tensor
    structure_T: Tensor

    def total(self, *, canvas: bool = True) -> Tensor:
        """Equation 3, averaged over the stages, plus the structure's loss, averaged over the structure stages.

        Args:
            canvas: whether the first term of equation 3 counts.
        """
        content_S = self.canvas_S + self.tokens_S if canvas else self.tokens_S
        return content_S.mean() + self.structure_T.mean()


def stage_losses(output: GeneratorOutput, structure_T: Tensor, tokens: TokenSequence, final_BLC: Tensor) -> StageLosses:
    """Equation 3 per stage, ||x_K - f||² and the cross-entropy of the tokens, with the structure's losses."""
    assert output.final_BSLC is not None
    assert output.logits_BNV is not None
    canvas_S = (output.final_BSLC - final_BLC[:, None]).square().mean(dim=(0, 2, 3))
    counts = [index.shape[1] for index in tokens.indices]
    target_BN = torch.cat(tokens.indices, dim=1)
    entropy_BN = F.cross_entropy(output.logits_BNV.flatten(0, 1), target_BN.flatten(), reduction="none").view_as(target_BN)
    correct_BN = (output.logits_BNV.detach().argmax(dim=-1) == target_BN).float()
    return StageLosses(
        canvas_S,
        torch.stack([part.mean() for part in entropy_BN.split(counts, dim=1)]),
        torch.stack([part.mean() for part in correct_BN.split(counts, dim=1)]),
        structure_T,
    )


class NvgObjective(Objective):
    """All stages of every image in each step.

    Args:
        config: for ``label_drop`` and the alignment's block and weight.
        tokenizer: the frozen tokenizer.
        generator: what is trained; it gets a projector if there is a target.
        target: of the feature alignment; None for no alignment.
        notes: on the target, for the record.

    Attributes:
        teacher: a trained structure generator whose flow is the target instead of structure maps; None to learn from these.
        modules: "generator", which includes the projector: one gradient norm, one optimizer and one average for both.
    """

    training_only = ("projector",)

    def __init__(
        self,
        config: NvgModelConfig,
        tokenizer: Canvases,
        generator: NvgGenerator,
        target: AlignmentTarget | None = None,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.label_drop, self.tokenizer = config.label_drop, tokenizer
        self.num_classes = generator.num_classes
        self.notes = notes
        self._flow = generator.flow
        self.teacher: StructureGenerator | None = None
        self._content_weights = list(generator.content.parameters())
        self._predicts_canvas, self._takes_noise = generator.content.predicts_canvas, generator.content.takes_noise
        self._target = target if config.alignment_weight > 0 else None
        self._alignment_weight = config.alignment_weight
        self.needs_images = self._target is not None
        if self._target is not None:
            generator.align(config.alignment_block, self._target.features)
        self.modules = {"generator": generator}

    def losses(
        self, batch: TokenBatch, rng: torch.Generator, step: int
    ) -> Iterator[tuple[str, Tensor, Mapping[str, Tensor | float]]]:
        """One loss, with its terms as means over the stages. Content and structure of an image lose their label together."""
        tokens = batch.tokens
        assert isinstance(tokens, TokenSequence)
        structure_BL = tokens.structure_BL
        assert structure_BL is not None
        noised = self._flow.draw(structure_BL, rng)
        dropped_B = torch.rand(len(tokens), generator=rng, device=rng.device).to(structure_BL.device) < self.label_drop
        labels_B = batch.labels_B.masked_fill(dropped_B, self.num_classes)
        before_BSLC, final_BLC = canvases_of(self.tokenizer, tokens)

        def structure(conditions: StageConditions, own: StructureGenerator) -> Tensor:
            teacher = None if self.teacher is None else conditions.bind(self.teacher)
            return self._flow.losses(conditions.bind(own), noised, teacher)

        noise: tuple[Tensor, ...] = ()
        if self._takes_noise:
            noise = (torch.randn(final_BLC.shape, generator=rng, device=rng.device).to(final_BLC.device),)
        learns_content = self._target is not None or any(weight.requires_grad for weight in self._content_weights)
        output = self.modules["generator"](before_BSLC, structure_BL, structure, labels_B, *noise, content=learns_content)
        logged = {self._flow.loss_name: output.structure.detach().mean()}
        if not learns_content:
            yield "generator", output.structure.mean(), logged
            return
        terms = stage_losses(output, output.structure, tokens, final_BLC)
        total = terms.total(canvas=self._predicts_canvas)
        logged = {
            "canvas_mse": terms.canvas_S.detach().mean(),
            "token_cross_entropy": terms.tokens_S.detach().mean(),
            "token_accuracy": terms.accuracy_S.mean(),
            **logged,
        }
        if self._target is not None:
            assert batch.images_B3HW is not None, "the loop keeps images for objectives that need them"
            assert output.projected_BSLF is not None
            alignment = alignment_losses(output.projected_BSLF, self._target(batch.images_B3HW)).mean()
            total = total + self._alignment_weight * alignment
            logged["alignment"] = alignment.detach()
        yield "generator", total, logged


@torch.no_grad()
def canvases_of(tokenizer: Canvases, tokens: TokenSequence) -> tuple[Tensor, Tensor]:
    """The canvas before each stage ``[B, S, L, C]`` (zeros at stage 0) and the final one ``[B, L, C]``, float32."""
    after_BSLC = tokenizer.canvases(tokens).float().flatten(3).transpose(2, 3)
    before_BSLC = torch.cat((torch.zeros_like(after_BSLC[:, :1]), after_BSLC[:, :-1]), dim=1)
    return before_BSLC, after_BSLC[:, -1]


def measure_scale_factors(tokenizer: Canvases, tokens: TokenSequence, batch_size: int = 64) -> Tensor:
    """Scales of the canvases: 1 / standard deviation over images, positions and channels.

    Returns:
        float32 ``[S + 1]``: entry i for the canvas that enters stage i (0: unused, 1), the last for the final canvas.
    """
    count = 0
    sums_2S = torch.zeros(2, tokens.stages, dtype=torch.float64)
    for start in range(0, len(tokens), batch_size):
        with torch.no_grad():
            canvas_BSN = tokenizer.canvases(tokens[start : start + batch_size]).double().flatten(2)
        count += canvas_BSN.shape[0] * canvas_BSN.shape[2]
        sums_2S += torch.stack((canvas_BSN.sum(dim=(0, 2)), canvas_BSN.square().sum(dim=(0, 2)))).cpu()
    mean_S, square_S = sums_2S / count
    variance_S = square_S - mean_S.square()
    # A constant canvas has no scale.
    factors_S = torch.where(variance_S > 1e-12, variance_S.clamp_min(1e-12).rsqrt(), 1.0)
    return torch.cat((factors_S.new_ones(1), factors_S)).float()


def measure_code_variance(codebook_VC: Tensor, tokens: TokenSequence) -> float:
    """Mean squared distance of the codes of all ``tokens`` from their mean, summed over channels; 1 if all codes are equal."""
    codes_NC = codebook_VC.detach().double()[torch.cat([index.flatten() for index in tokens.indices]).long()]
    return float(codes_NC.var(dim=0, correction=0).sum()) or 1.0
