"""Next Visual Granularity generation (Wang et al., 2025, arXiv 2508.12811). Importing this imports no torch."""

from __future__ import annotations

from nvgbench.nvg.family import NvgFamily

FAMILY = NvgFamily()
