"""Content and structure generator in one module, and what both give for all stages of a training batch.

Shape letters: B batch, S stages (K + 1), T structure stages (K - 1), L positions, C latent channels, K structure channels,
V codebook size, N all clusters of all stages.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.content import ContentGenerator
from nvgbench.nvg.layout import StageLayout
from nvgbench.nvg.quantizer import cluster_means
from nvgbench.nvg.structure import structure_embedding
from nvgbench.nvg.structure_flow import StructureGenerator


@dataclass(frozen=True)
class GeneratorOutput:
    """Predictions for all stages of a batch.

    Attributes:
        final_BSLC: the final canvas as predicted at each stage, float32.
        logits_BNV: logits of every cluster, stage after stage, float32.
        velocity_BTLK: velocity of the structure flow at stages 0 … K - 2, float32.
    """

    final_BSLC: Tensor
    logits_BNV: Tensor
    velocity_BTLK: Tensor


class NvgGenerator(nn.Module):
    """The two transformers of NVG (paper, section 3.2).

    Args:
        config: sizes and options.
        layout: grid and stages of the tokenizer.
        channels: latent channels C.
        codebook_size: V.
        num_classes: number of classes; the index ``num_classes`` stands for "no class".

    Raises:
        InputError: the head size has no room for the rotary axes.
    """

    def __init__(
        self, config: NvgModelConfig, layout: StageLayout, *, channels: int, codebook_size: int, num_classes: int
    ) -> None:
        super().__init__()
        self.layout, self.num_classes = layout, num_classes
        self.partial_noise = config.structure_input == "partial-noise"
        self.content = ContentGenerator(config, layout, channels=channels, codebook_size=codebook_size, num_classes=num_classes)
        self.structure = StructureGenerator(config, layout, channels=channels, num_classes=num_classes)

    def stage_embeddings(self, labels_BL: Tensor) -> Tensor:
        """Structure embedding of every stage, float32 ``[B, S, L, K]``, from the last stage's labels."""
        layout = self.layout
        return torch.stack(
            [
                structure_embedding(layout.coarser(labels_BL, layout.last, stage), layout.known(stage), layout.channels)
                for stage in range(layout.stages)
            ],
            dim=1,
        )

    def impose_known(self, values_BLK: Tensor, data_BLK: Tensor, known: int) -> Tensor:
        """Overwrite the first ``known`` channels with the truth (partial noise); pure noise leaves everything as it is."""
        if not self.partial_noise or known == 0:
            return values_BLK
        return torch.cat((data_BLK[..., :known], values_BLK[..., known:]), dim=-1)

    def forward(
        self, canvas_BSLC: Tensor, structure_BL: Tensor, z_BTLK: Tensor, t_BT: Tensor, labels_B: Tensor
    ) -> GeneratorOutput:
        """All stages at once, the stage axis folded into the batch.

        Args:
            canvas_BSLC: the canvas BEFORE each stage (the one after stage i is entry i + 1).
            structure_BL: int64 labels of the last stage.
            z_BTLK: noised structure of each structure stage, around -1 … +1.
            t_BT: flow times.
            labels_B: int64 classes, ``num_classes`` for none.
        """
        layout, batch = self.layout, len(labels_B)
        se_BSLK = self.stage_embeddings(structure_BL)
        stages_S = torch.arange(layout.stages, device=labels_B.device)
        final_BSLC = self.content(
            canvas_BSLC.flatten(0, 1), se_BSLK.flatten(0, 1), stages_S.repeat(batch), labels_B.repeat_interleave(layout.stages)
        ).unflatten(0, (batch, -1))
        residual_BSLC = final_BSLC - canvas_BSLC
        means = [
            cluster_means(residual_BSLC[:, stage], layout.coarser(structure_BL, layout.last, stage), clusters)
            for stage, clusters in enumerate(layout.tokens)
        ]
        count = layout.structure_stages
        velocity_BTLK = self.structure(
            z_BTLK.flatten(0, 1),
            t_BT.flatten(),
            canvas_BSLC[:, 1 : count + 1].flatten(0, 1),
            se_BSLK[:, :count].flatten(0, 1),
            stages_S[:count].repeat(batch),
            labels_B.repeat_interleave(count),
        ).unflatten(0, (batch, -1))
        return GeneratorOutput(final_BSLC, self.content.token_logits(torch.cat(means, dim=1)), velocity_BTLK)
