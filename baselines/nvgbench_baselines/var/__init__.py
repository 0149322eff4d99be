"""VAR (Tian et al., "Visual Autoregressive Modeling", NeurIPS 2024): next-scale prediction. Importing this imports no torch."""

from __future__ import annotations

from nvgbench_baselines.var.family import VarFamily

FAMILY = VarFamily()
