"""Training the raster model: cross-entropy of every token given those before. B batch, L tokens, V codebook size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from nvgbench.interfaces import Objective
from nvgbench.types import TokenBatch, TokenSequence
from nvgbench_baselines.ar.transformer import ArTransformer
from nvgbench_baselines.conditioning import drop_labels


class ArObjective(Objective):
    """Mean cross-entropy over images and tokens; a share of the labels is dropped."""

    def __init__(self, transformer: ArTransformer) -> None:
        self.transformer = transformer
        self.modules = {"generator": transformer}

    def losses(
        self, batch: TokenBatch, rng: torch.Generator, step: int
    ) -> Iterator[tuple[str, Tensor, Mapping[str, Tensor | float]]]:
        """One loss, with the accuracy of tokens."""
        assert isinstance(batch.tokens, TokenSequence)
        (targets_BL,) = batch.tokens.indices
        labels_B = drop_labels(batch.labels_B, self.transformer.config.label_drop, self.transformer.num_classes, rng)
        logits_BLV = self.transformer(labels_B, targets_BL)
        loss = F.cross_entropy(logits_BLV.float().transpose(1, 2), targets_BL)
        with torch.no_grad():
            accuracy = (logits_BLV.argmax(dim=-1) == targets_BL).float().mean()
        yield "generator", loss, {"token_accuracy": accuracy}
