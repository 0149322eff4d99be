"""The study ``transfer``: whether NVG's gain over VAR holds on other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import ClassVar

from nvgbench.ablations.study import Conclusion, Row, Variant
from nvgbench.ablations.trained import TrainedVariants
from nvgbench.results.study import Chart

SOURCES = ("shapes", "cifar10", "cifar100")


class Transfer(TrainedVariants):
    """NVG minus VAR on every data set, with the same budgets and seeds."""

    name = "transfer"
    question = "Does NVG's gain over VAR hold on other data?"
    varies: ClassVar = {
        "family": "NVG and VAR, presets of the same size and budget",
        "data": f"{', '.join(SOURCES)} or the sources given; those that are not available fail and are left out of the answer",
    }
    presets: ClassVar = {"quick": "nvg-tiny", "standard": "nvg-tiny", "paper": "nvg-cifar10"}
    limits = "Budgets are equal in images seen, not in time or FLOPs. Scores of different data sets cannot be compared."
    compares_sources = True

    def variants(self, preset: str) -> Sequence[Variant]:
        other = preset.replace("nvg-", "var-", 1)
        return [
            variant
            for name, source in _names(self.sources or SOURCES).items()
            for variant in (
                Variant(name=f"VAR, {name}", preset=other, settings={"data.source": source}, baseline=f"VAR, {name}"),
                Variant(name=f"NVG, {name}", settings={"data.source": source}, baseline=f"VAR, {name}"),
            )
        ]

    def conclude(self, tables: Mapping[str, list[Row]]) -> Conclusion:
        found = super().conclude(tables)
        rows = [{"data": str(row["variant"]).removeprefix("NVG, "), **row} for row in found.tables["differences"]]
        metric = tables["scores"][0]["metric"]
        chart = Chart(
            table="differences", kind="dots", series="data", zero=True, label=f"NVG minus VAR in {metric}",
            caption=f"A row per data set: {metric} of NVG minus that of VAR, mean over training seeds; left of the line at "
            "zero, NVG is better. Bars are intervals over trainings that hold for all data sets together; a row without a bar "
            "has one training or no spread. The rows are not averaged, as distances on different data have no common scale.",
        )  # fmt: skip
        return Conclusion(findings=found.findings, charts=[chart], tables={"differences": rows})


def _names(sources: Sequence[str]) -> dict[str, str]:
    """Short name -> source: the last part of a path, unless two sources share it."""
    short = [PurePath(source.partition(":")[2]).name or source for source in sources]
    return {source if short.count(name) > 1 else name: source for name, source in zip(short, sources, strict=True)}
