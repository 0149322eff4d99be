"""The study ``levels``: how many stages, and how many tokens in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nvgbench.ablations.study import Variant
from nvgbench.ablations.trained import TrainedVariants
from nvgbench.config.load import load_preset
from nvgbench.errors import InputError
from nvgbench.nvg.quantizer import stage_tokens

_SIZES = (2, 4, 16)


class Levels(TrainedVariants):
    """The group size decides the stages: by 2 all of them, by 4 every second one, by 16 every fourth."""

    name = "levels"
    question = "How many stages does the hierarchy need at equal training?"
    varies: ClassVar = {
        "group size": "2 (the model as published), 4 and 16, where the grid is a power of it; each with a tokenizer of its own"
    }
    limits = (
        "Fewer stages cost less per step and per image, and all variants are trained for equally many images, not for equal "
        "time. Stages that are not a power of one group size are not trained."
    )

    def variants(self, preset: str) -> Sequence[Variant]:
        positions = None
        if preset:
            grid = load_preset(preset).grid
            positions = grid[0] * grid[1]
        found = []
        for size in _SIZES:
            try:
                tokens = None if positions is None else stage_tokens(positions, size)
            except InputError:  # the grid is no power of it
                continue
            if tokens is None or len(tokens) > 2:
                found.append(Variant(name=f"groups of {size}", settings={"tokenizer.quantizer.group_size": size}))
        return found
