"""The study ``components``: what the parts of NVG contribute (paper, Table 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nvgbench.ablations.study import Variant
from nvgbench.ablations.trained import TrainedVariants


class Components(TrainedVariants):
    """Table 3 without the noised canvas, which this package does not train."""

    name = "components"
    question = "What do partial noise and structure-aware rotary embeddings contribute to NVG?"
    varies: ClassVar = {
        "partial noise": "the model as published: the structure flow sees the channels that are already decided",
        "pure noise": "the structure flow sees noise in all channels",
        "no structure RoPE": "the rotary embedding has no structure axes",
    }
    limits = (
        "The variants differ in one part each, so joint effects are not seen. The paper's variant with a noised canvas is "
        "missing. A small model at a small budget need not rank the parts as the published one does."
    )

    def variants(self, preset: str) -> Sequence[Variant]:
        return (
            Variant(name="partial noise", settings={"model.structure_input": "partial-noise"}),
            Variant(name="pure noise", settings={"model.structure_input": "pure-noise"}),
            Variant(name="no structure RoPE", settings={"model.structure_rope": False}),
        )
