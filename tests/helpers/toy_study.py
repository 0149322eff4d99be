"""A study whose measurement takes no time: the size of the weights, the seed, or a failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from nvgbench.ablations.study import Conclusion, Context, Row, StudiedRun, Study, Tables, Variant
from nvgbench.ablations.trained import conclude_variants

MEASURED: list[str] = []
"""Runs that were measured in this process."""
FAILING: set[str] = set()
"""Variants whose measurement fails."""


class Toy(Study):
    name = "toy"
    question = "Does the learning rate matter?"
    varies: ClassVar = {"rate": "the generator's learning rate"}
    reports: ClassVar = {"scores": "a number per run"}
    limits = "Everything."
    presets: ClassVar = {"quick": "ar-tiny", "standard": "ar-tiny", "paper": "ar-tiny"}

    def variants(self, preset: str) -> Sequence[Variant]:
        rates = {"low": 1e-4, "high": 1e-3}
        return [Variant(name=name, settings={"train.generator.learning_rate": rate}) for name, rate in rates.items()]

    def measure(self, run: StudiedRun, context: Context) -> Tables:
        MEASURED.append(run.folder.name)
        if run.variant in FAILING:
            raise RuntimeError("no memory")
        return {"scores": [{"metric": "constant", "value": 1.0, "higher_is_better": True}]}

    def conclude(self, tables: Mapping[str, list[Row]]) -> Conclusion:
        return conclude_variants(tables["scores"], list(self.variants("")), "constant")


def settings() -> dict[str, Any]:
    """A training of a second."""
    return {
        "data.image_size": 16,
        "data.train_images": 8,
        "tokenizer.channel_multipliers": [1, 2, 2],
        "tokenizer.codebook_size": 16,
        "model.depth": 1,
        "train.tokenizer.steps": 2,
        "train.generator.steps": 2,
        "train.tokenizer.batch_size": 4,
        "train.generator.batch_size": 4,
    }
