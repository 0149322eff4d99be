"""A generator small enough for unit tests."""

from __future__ import annotations

import torch

from nvgbench.nvg.config import NvgModelConfig
from nvgbench.nvg.generator import NvgGenerator
from nvgbench.nvg.stages import StageLayout

SQUARE = StageLayout((4, 4))


def tiny(layout: StageLayout = SQUARE, **options: object) -> NvgGenerator:
    torch.manual_seed(0)
    config = NvgModelConfig(**{"depth": 2, "head_size": 24, "drop_path": 0.0, **options})  # type: ignore[arg-type]
    return NvgGenerator(config, layout, channels=6, codebook_size=20, num_classes=3).eval()
