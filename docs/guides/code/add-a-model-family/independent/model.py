"""The model, its objective and its sampler. B batch, L positions, V codebook size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from nvgbench.config.load import override_dataclass
from nvgbench.data.images import to_uint8
from nvgbench.interfaces import Objective
from nvgbench.sampling.filters import choose_tokens
from nvgbench.sampling.noise import SeededNoise
from nvgbench.types import SampleResult, TokenSequence


class LogitTable(nn.Module):
    """One row of logits for each class and position."""

    def __init__(self, num_classes, length, codebook_size):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(num_classes, length, codebook_size))

    def forward(self, labels_B):
        return self.logits[labels_B]  # [B, L, V]


class TableObjective(Objective):
    def __init__(self, table, smoothing):
        self.table = table
        self.smoothing = smoothing
        self.modules = {"generator": table}

    def losses(self, batch, rng, step):
        (targets_BL,) = batch.tokens.indices
        logits_BVL = self.table(batch.labels_B).transpose(1, 2)
        yield "generator", F.cross_entropy(logits_BVL, targets_BL, label_smoothing=self.smoothing), {}


class TableImageGenerator:
    """Implements `nvgbench.interfaces.ImageGenerator`."""

    def __init__(self, tokenizer, table, settings, spec):
        self.tokenizer, self.table, self.settings, self.spec = tokenizer, table, settings, spec

    @torch.no_grad()
    def generate(self, request):
        settings = override_dataclass(self.settings, request.settings, "sampling")
        logits_BLV = self.table(request.labels_B.to(self.table.logits.device))
        # Every image has its own seed, so that it does not depend on the batch it is drawn in.
        uniforms_BL = SeededNoise(request.seeds_B, logits_BLV.device).uniform(logits_BLV.shape[1])
        tokens_BL = choose_tokens(logits_BLV, uniforms_BL, temperature=settings.temperature)
        return SampleResult(to_uint8(self.tokenizer.decode(TokenSequence((tokens_BL,)))))
