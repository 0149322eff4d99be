"""How smoothly a run was trained, from its log: jumps of the loss, norms of the gradient, steps that are not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nvgbench.ablations.study import Row
from nvgbench.config.schema import RunConfig

_WINDOW = 5
SPIKE = 1.5
"""A logged loss is a spike if it exceeds the median of the five before it by this factor."""


def training_stability(rows: Sequence[Mapping[str, Any]], config: RunConfig) -> list[Row]:
    """A row per phase and trained module.

    Args:
        rows: of ``train.jsonl``; each holds means over the steps since the one before.
        config: of the run, for the norm at which gradients are clipped.

    Returns:
        Rows of phase, module, logged (lines), spikes, largest_rise (loss over the median of the five before it; None with
        fewer lines), grad_norm (median), grad_norm_max, clipped (share of lines whose mean norm exceeds the limit),
        not_finite (lines with such a loss or norm).
    """
    found = []
    for phase in dict.fromkeys(row["phase"] for row in rows):
        own = [row for row in rows if row["phase"] == phase]
        limit = getattr(config.train, phase).clip_norm
        for module in dict.fromkeys(name for row in own for name in row.get("grad_norm", {})):
            losses = np.array([row["losses"].get(module, math.nan) for row in own], np.float64)
            norms = np.array([row["grad_norm"].get(module, math.nan) for row in own], np.float64)
            rises = [losses[i] / np.median(losses[i - _WINDOW : i]) for i in range(_WINDOW, len(losses))]
            rises = [rise for rise in rises if math.isfinite(rise)]
            usable = norms[np.isfinite(norms)]
            found.append(
                {
                    "phase": phase, "module": module, "logged": len(own),
                    "spikes": sum(rise > SPIKE for rise in rises), "largest_rise": float(max(rises)) if rises else None,
                    "grad_norm": float(np.median(usable)) if len(usable) else None,
                    "grad_norm_max": float(usable.max()) if len(usable) else None,
                    "clipped": float((usable > limit).mean()) if len(usable) else None,
                    "not_finite": int((~np.isfinite(losses) | ~np.isfinite(norms)).sum()),
                }
            )  # fmt: skip
    return found
