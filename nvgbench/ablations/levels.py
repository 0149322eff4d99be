"""The study ``levels``: how many stages, and how many tokens in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nvgbench.ablations.study import Variant
from nvgbench.ablations.trained import TrainedVariants
from nvgbench.config.load import load_preset
from nvgbench.errors import InputError
from nvgbench.nvg.config import GroupSize
from nvgbench.nvg.stages import StageLayout


class Levels(TrainedVariants):
    """The group size decides the stages: by 2 all of them, by 4 every second one; a list of sizes decides each split alone."""

    name = "levels"
    question = "How many stages does the hierarchy need at equal training?"
    varies: ClassVar = {
        "tokens per stage": "groups of 2 (the model as published), 4 and 16, where the grid is a power of it; a single early "
        "or late stage between the first and the last; each with a tokenizer of its own"
    }
    limits = (
        "All variants are trained for equally many images; fewer stages cost less per step and per image, see the costs. Two "
        "stages, which need no structure generator, are not trained."
    )

    def variants(self, preset: str) -> Sequence[Variant]:
        grid = load_preset(preset).grid
        positions = grid[0] * grid[1]
        sizes: tuple[GroupSize, ...] = (2, 4, 16, (2, positions // 2), (positions // 2, 2))
        found: dict[tuple[int, ...], Variant] = {}
        for size in sizes:
            try:
                tokens = StageLayout(grid, size).tokens
            except InputError:  # the grid is no power of it, or there would be two stages
                continue
            found.setdefault(tokens, Variant(name=_name(tokens), settings={"tokenizer.quantizer.group_size": size}))
        return tuple(found.values())


def _name(tokens: Sequence[int]) -> str:
    """1-2-4-8-16; all stages of a large grid as 1-2-…-256."""
    counts = [str(count) for count in tokens]
    return "-".join(counts if len(counts) < 7 else [*counts[:2], "…", counts[-1]])
