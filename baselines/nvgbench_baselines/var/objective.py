"""Training VAR: cross-entropy of all tokens of all scales at once. B batch, L tokens of all scales, V codebook size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from nvgbench.interfaces import Objective
from nvgbench.types import TokenBatch, TokenSequence
from nvgbench_baselines.conditioning import drop_labels
from nvgbench_baselines.var.quantizer import ScaleQuantizer
from nvgbench_baselines.var.transformer import VarTransformer


class VarObjective(Objective):
    """Mean cross-entropy over images and tokens; a share of the labels is dropped."""

    # The published recipe's exemptions, beside vectors.
    no_weight_decay = ("start_nD", "position_LD", "scale_embedding.weight", "blocks.*.modulation_offset_6D")

    def __init__(self, quantizer: ScaleQuantizer, transformer: VarTransformer) -> None:
        self.quantizer = quantizer
        self.transformer = transformer
        self.modules = {"generator": transformer}

    def losses(
        self, batch: TokenBatch, rng: torch.Generator, step: int
    ) -> Iterator[tuple[str, Tensor, Mapping[str, Tensor | float]]]:
        """One loss, with the accuracy of tokens and the loss of the first and last scale."""
        assert isinstance(batch.tokens, TokenSequence)
        labels_B = drop_labels(batch.labels_B, self.transformer.config.label_drop, self.transformer.num_classes, rng)
        logits_BLV = self.transformer(labels_B, self.quantizer.teacher_inputs(batch.tokens))
        targets_BL = torch.cat(batch.tokens.indices, dim=1)
        entropy_BL = token_cross_entropy(logits_BLV, targets_BL, self.transformer.config.label_smoothing)
        with torch.no_grad():
            by_stage = entropy_BL.split(self.transformer.stage_tokens, dim=1)
            scalars = {
                "token_accuracy": (logits_BLV.argmax(dim=-1) == targets_BL).float().mean(),
                "loss_first_scale": by_stage[0].mean(),
                "loss_last_scale": by_stage[-1].mean(),
            }
        yield "generator", entropy_BL.mean(), scalars


def token_cross_entropy(logits_BLV: Tensor, targets_BL: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of each token in nats, ``[B, L]``, float32.

    Args:
        smoothing: label smoothing.
    """
    return F.cross_entropy(logits_BLV.float().transpose(1, 2), targets_BL, reduction="none", label_smoothing=smoothing)
