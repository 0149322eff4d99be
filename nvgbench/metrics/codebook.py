"""Codebook use, stage by stage. Shape letters: V codebook size, S stages."""

from __future__ import annotations

from typing import Any

import numpy as np

from nvgbench.errors import InputError
from nvgbench.types import TokenSequence


class CodebookUse:
    """Counts of every code at every stage, accumulated batch by batch.

    Args:
        codebook_size: V.
        stages: S.
    """

    def __init__(self, codebook_size: int, stages: int) -> None:
        if codebook_size < 1 or stages < 1:
            raise InputError(f"a codebook of {codebook_size} codes over {stages} stages; expected at least 1 of each")
        self.counts_SV = np.zeros((stages, codebook_size), dtype=np.int64)

    def update(self, tokens: TokenSequence) -> None:
        """Count the codes of a batch of images.

        Raises:
            InputError: another number of stages, or an index outside of the codebook.
        """
        stages, size = self.counts_SV.shape
        if tokens.stages != stages:
            raise InputError(f"tokens of {tokens.stages} stages, expected {stages}")
        for stage, indices in enumerate(tokens.indices):
            flat = indices.detach().cpu().numpy().reshape(-1)
            if flat.size and (flat.min() < 0 or flat.max() >= size):
                raise InputError(f"stage {stage}: code {int(flat.max())} is outside a codebook of {size}")
            self.counts_SV[stage] += np.bincount(flat, minlength=size)

    def merge(self, other: CodebookUse) -> None:
        """Add the counts of ``other``.

        Raises:
            InputError: another codebook size or number of stages.
        """
        if other.counts_SV.shape != self.counts_SV.shape:
            raise InputError(f"cannot merge code counts of shape {other.counts_SV.shape} into {self.counts_SV.shape}")
        self.counts_SV += other.counts_SV

    def rows(self) -> list[dict[str, Any]]:
        """One row per stage and one for ``all``: tokens counted, codes used, share of the codebook, perplexity exp(entropy).

        The perplexity is between 1 and the number of codes used; ``used_at_most`` is what this number of tokens could use.
        """
        named = [(str(stage), counts) for stage, counts in enumerate(self.counts_SV)] + [("all", self.counts_SV.sum(axis=0))]
        return [{"stage": name, **_row(counts)} for name, counts in named]


def perplexity(counts: Any) -> float:
    """exp of the entropy (nats) of the codes, given by their counts; 0 without any tokens."""
    values = np.asarray(counts, dtype=np.float64)
    total = values.sum()
    if total == 0:
        return 0.0
    share = values[values > 0] / total
    return float(np.exp(-(share * np.log(share)).sum()))


def _row(counts: np.ndarray) -> dict[str, Any]:
    tokens, used = int(counts.sum()), int((counts > 0).sum())
    return {
        "tokens": tokens,
        "used": used,
        "used_at_most": min(tokens, len(counts)),
        "use": used / len(counts),
        "perplexity": perplexity(counts),
    }
