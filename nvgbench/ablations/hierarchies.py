"""The study ``hierarchies``: whether the choice of clusters matters once a tokenizer and a generator are trained with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nvgbench.ablations.study import Variant
from nvgbench.ablations.trained import TrainedVariants

_METHODS = ("quadtree", "random")
_ORDERS = ("raster", "random")


class Hierarchies(TrainedVariants):
    """Balanced hierarchies of the same sizes, trained at equal budget."""

    name = "hierarchies"
    question = "Does it matter how positions are clustered, and in which order children are numbered, at equal training?"
    varies: ClassVar = {
        "clustering": "greedy (the method's), quadtree (fixed) and random; each with a tokenizer of its own",
        "child order": "which child gets the lower number: the closer pair (the method's), raster order, or random",
    }
    limits = (
        "All hierarchies are balanced and have the same numbers of clusters, which the study levels varies. Clusterings that "
        "the tokenizer cannot be trained with (k-means, Ward, SLIC) are compared by the study clusters, without training."
    )

    def variants(self, preset: str) -> Sequence[Variant]:
        return (
            Variant(name="greedy"),
            *(Variant(name=name, settings={"tokenizer.quantizer.clustering": name}) for name in _METHODS),
            *(Variant(name=f"{name} order", settings={"tokenizer.quantizer.child_order": name}) for name in _ORDERS),
        )
