"""The study ``transfer``: whether NVG's gain over VAR holds on other data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from nvgbench.ablations.study import Variant
from nvgbench.ablations.trained import TrainedVariants

SOURCES = ("shapes", "cifar10", "cifar100")


class Transfer(TrainedVariants):
    """NVG minus VAR on every data set, with the same budgets and seeds."""

    name = "transfer"
    question = "Does NVG's gain over VAR hold on other data?"
    varies: ClassVar = {
        "family": "NVG and VAR, presets of the same size and budget",
        "data": f"{', '.join(SOURCES)}; those that are not on this machine fail and are left out of the answer",
    }
    presets: ClassVar = {"quick": "nvg-tiny", "standard": "nvg-tiny", "paper": "nvg-cifar10"}
    limits = "Budgets are equal in images seen, not in time or FLOPs. Scores of different data sets cannot be compared."

    def variants(self, preset: str) -> Sequence[Variant]:
        other = preset.replace("nvg-", "var-", 1)
        return [
            variant
            for source in SOURCES
            for variant in (
                Variant(name=f"VAR, {source}", preset=other, settings={"data.source": source}, baseline=f"VAR, {source}"),
                Variant(name=f"NVG, {source}", settings={"data.source": source}, baseline=f"VAR, {source}"),
            )
        ]
