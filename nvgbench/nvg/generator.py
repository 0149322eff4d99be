"""Content and structure generator in one module, and their outputs for all stages of a training batch.

Shape letters: B batch, S stages (K + 1), T structure stages (K - 1), L positions, C latent channels, K structure channels,
V codebook size, N clusters of all stages, F channels of the alignment's target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nvgbench.nvg.alignment import Projector
from nvgbench.nvg.blocks import half_precision_layers
from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.content import ContentGenerator
from nvgbench.nvg.quantizer import cluster_means
from nvgbench.nvg.stages import StageLayout
from nvgbench.nvg.structure import structure_embedding
from nvgbench.nvg.structure_flow.registry import structure_objective
from nvgbench.nvg.structure_generator import StageConditions, StructureGenerator

StructureTask = Callable[[StageConditions, StructureGenerator], Tensor]
"""What is computed with the structure generator for all stages of a batch, such as its losses."""


@dataclass(frozen=True)
class GeneratorOutput:
    """Predictions for all stages of a batch.

    Attributes:
        structure: result of the structure's task.
        final_BSLC: prediction of the final canvas at each stage, float32; None without content.
        logits_BNV: token logits of every cluster, stage after stage, float32; None without content.
        projected_BSLF: projected features of the content transformer in a training with alignment, see
            `nvgbench.nvg.alignment`.
    """

    structure: Tensor
    final_BSLC: Tensor | None = None
    logits_BNV: Tensor | None = None
    projected_BSLF: Tensor | None = None


class NvgGenerator(nn.Module):
    """The two transformers of NVG (paper, section 3.2).

    Args:
        config: sizes and options.
        layout: grid and stages of the tokenizer.
        channels: latent channels C.
        codebook_size: V.
        num_classes: number of classes; label ``num_classes`` means "no class".

    Attributes:
        projector: only in a training with feature alignment (`align`); sampling does not use it.

    Raises:
        InputError: the head size has no room for the rotary axes.
    """

    projector: Projector | None

    def __init__(
        self, config: NvgModelConfig, layout: StageLayout, *, channels: int, codebook_size: int, num_classes: int
    ) -> None:
        super().__init__()
        self.layout, self.num_classes = layout, num_classes
        self.flow = structure_objective(config, layout)
        self.starts_at_codes = config.token_head_start == "codebook"
        self.content = ContentGenerator(config, layout, channels=channels, codebook_size=codebook_size, num_classes=num_classes)
        self.structure = StructureGenerator(config, layout, channels=channels, num_classes=num_classes)
        self.register_module("projector", None)
        self._aligned_block: int | None = None

    def align(self, block: int, features: int) -> None:
        """Prepare for a training with feature alignment: `forward` then also projects image tokens of the content transformer.

        Args:
            block: the block whose output is projected, counted from 1.
            features: F.
        """
        self.projector = Projector(self.content.embed.out_features, features)
        self._aligned_block = block

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As usual, but the weights of a projector are ignored if this generator has none."""
        if self.projector is None:
            state_dict = {name: value for name, value in state_dict.items() if not name.startswith("projector.")}
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def half_precision_layers(self) -> list[nn.Linear]:
        """The linear layers that have bf16 weights in bf16 sampling."""
        return [
            *half_precision_layers(self.content.blocks, self.content.head),
            *half_precision_layers(self.structure.blocks, self.structure.head),
        ]

    def sharded_units(self) -> list[nn.Module]:
        """Blocks and their modulation, which is computed for all of them beforehand."""
        blocks = (*self.content.blocks, *self.structure.blocks)
        return [unit for block in blocks for unit in (block.get_submodule("modulation"), block)]

    def compile_blocks(self) -> None:
        """Use compiled arithmetic in the blocks of both transformers."""
        for block in (*self.content.blocks, *self.structure.blocks):
            block.compile_arithmetic()

    def stage_embeddings(self, structure_BL: Tensor) -> Tensor:
        """Structure embedding of every stage, float32 ``[B, S, L, K]``, from the last structure map."""
        layout = self.layout
        return torch.stack(
            [
                structure_embedding(layout.coarser(structure_BL, layout.last, stage), layout.known(stage), layout.channels)
                for stage in range(layout.stages)
            ],
            dim=1,
        )

    def forward(
        self,
        canvas_BSLC: Tensor,
        structure_BL: Tensor,
        task: StructureTask,
        labels_B: Tensor,
        noise_BLC: Tensor | None = None,
        *,
        content: bool = True,
    ) -> GeneratorOutput:
        """All stages at once, with the stage axis folded into the batch.

        Args:
            canvas_BSLC: the canvas BEFORE each stage (the one after stage i is entry i + 1).
            structure_BL: int64 structure map of the last stage.
            task: called with the conditions of the structure stages and the structure generator.
            labels_B: int64 classes, ``num_classes`` for none.
            noise_BLC: standard normal noise of the canvases, for models that are trained with it.
            content: whether the content generator runs.
        """
        layout, batch = self.layout, len(labels_B)
        se_BSLK = self.stage_embeddings(structure_BL)
        stages_S = torch.arange(layout.stages, device=labels_B.device)
        predicted = self._content(canvas_BSLC, structure_BL, se_BSLK, labels_B, noise_BLC) if content else (None, None, None)
        count = layout.structure_stages
        conditions = StageConditions(
            canvas_BSLC[:, 1 : count + 1].flatten(0, 1),
            se_BSLK[:, :count].flatten(0, 1),
            stages_S[:count].repeat(batch),
            labels_B.repeat_interleave(count),
        )
        return GeneratorOutput(task(conditions, self.structure), *predicted)

    def _content(
        self,
        canvas_BSLC: Tensor,
        structure_BL: Tensor,
        se_BSLK: Tensor,
        labels_B: Tensor,
        noise_BLC: Tensor | None,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Final canvas, token logits and, in a training with alignment, projected features of every stage."""
        layout, batch = self.layout, len(labels_B)
        final, watched = self.content.predict(
            canvas_BSLC.flatten(0, 1),
            se_BSLK.flatten(0, 1),
            torch.arange(layout.stages, device=labels_B.device).repeat(batch),
            labels_B.repeat_interleave(layout.stages),
            None if noise_BLC is None else noise_BLC.repeat_interleave(layout.stages, dim=0),
            self._aligned_block,
        )
        final_BSLC = final.unflatten(0, (batch, -1))
        residual_BSLC = final_BSLC - canvas_BSLC
        means = [
            cluster_means(residual_BSLC[:, stage], layout.coarser(structure_BL, layout.last, stage), clusters)
            for stage, clusters in enumerate(layout.tokens)
        ]
        projected_BSLF = None
        if self.projector is not None and watched is not None:
            projected_BSLF = self.projector(watched).unflatten(0, (batch, -1))
        return final_BSLC, self.content.token_logits(torch.cat(means, dim=1)), projected_BSLF
