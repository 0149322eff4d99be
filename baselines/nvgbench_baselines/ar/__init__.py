"""Raster-order autoregression in the manner of LlamaGen (Sun et al., 2024). Importing this imports no torch."""

from __future__ import annotations

from nvgbench_baselines.ar.family import ArFamily

FAMILY = ArFamily()
