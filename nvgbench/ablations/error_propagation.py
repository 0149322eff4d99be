"""The study ``error-propagation``: how much the images gain if the first structure maps are those of real images.

Shape letters: B batch, N images, L positions, S stages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from nvgbench.ablations.scoring import sampled_scores
from nvgbench.ablations.study import Conclusion, Context, Row, StudiedRun, Study, Tables
from nvgbench.ablations.subject import held_out
from nvgbench.data.loader import sequential_batches
from nvgbench.errors import InputError
from nvgbench.nvg.image_generator import NvgImageGenerator
from nvgbench.nvg.sampler import GivenStructure
from nvgbench.nvg.structure import finest_to_stages
from nvgbench.results.study import Chart, Finding
from nvgbench.types import SampleRequest, SampleResult

_BATCH = 64


class ErrorPropagation(Study):
    """Structure maps of real images up to every stage; all content, and later structure, is generated."""

    name = "error-propagation"
    question = "How much of the distance to real images comes from generated structure, and from which stage on?"
    varies: ClassVar = {"given stages": "0 (all structure is generated) to all, from held-out images of the same class"}
    reports: ClassVar = {"given_structure": "all scores by number of given stages, with intervals over images"}
    limits = (
        "Structure alone is given: content is generated throughout, and no noise is injected. The given maps are of images "
        "that belong to the reference, which favours many given stages. Intervals cover other samples."
    )

    def check(self, runs: Sequence[StudiedRun], context: Context) -> None:
        for run in runs:
            if run.folder.config.family != "nvg" or run.folder.state("generator") is None:
                raise InputError(f"{run.folder.name} is no NVG run with a trained generator, which this study needs")

    def measure(self, run: StudiedRun, context: Context) -> Tables:
        generator = run.folder.load_generator(context.device)
        assert isinstance(generator, NvgImageGenerator)
        structure_NL, labels_N = _real_structure(run, context)
        layout = generator.generator.layout
        stages, maps_NSL = layout.stages, finest_to_stages(structure_NL, layout.tokens)
        rows: list[Row] = []
        for given in range(stages):
            source: Any = generator if given == 0 else WithRealStructure(generator, maps_NSL[:, given], labels_N, given)
            scores = sampled_scores(run.folder, context, seed=context.seed, split="eval", generator=source)
            rows += [{"given stages": given} | row for row in scores]
        return {"given_structure": rows}

    def conclude(self, tables: Mapping[str, list[Row]]) -> Conclusion:
        rows = tables["given_structure"]
        metric = str(rows[0]["metric"])
        decisive = [row for row in rows if row["metric"] == metric]
        findings = []
        for run in dict.fromkeys(row["run"] for row in decisive):
            own = sorted((row for row in decisive if row["run"] == run), key=lambda row: row["given stages"])
            findings.append(_finding(run, own[0], own[-1]))
        chart = Chart(
            table="by_given_stages", x="given stages", series="run", label=metric,
            caption=f"{metric} by number of stages whose structure is that of real images. Bands cover other samples from "
            "the same model.",
        )  # fmt: skip
        return Conclusion(findings=findings, charts=[chart], tables={"by_given_stages": decisive})


class WithRealStructure:
    """A model whose images get the first structure maps of real images of their class, in turn.

    Args:
        base: the model.
        structure_NL: maps of one stage, int64.
        labels_N: classes of the real images.
        stage: which.
    """

    def __init__(self, base: NvgImageGenerator, structure_NL: Tensor, labels_N: Tensor, stage: int) -> None:
        self.spec = base.spec
        self._base, self._structure_NL, self._stage = base, structure_NL, stage
        self._of_class = {label: (labels_N == label).nonzero()[:, 0].tolist() for label in set(labels_N.tolist())}
        self._used: dict[int, int] = {}

    def generate(self, request: SampleRequest) -> SampleResult:
        rows = [self._next(label) for label in request.labels_B.tolist()]
        return self._base.generate(request, structure=GivenStructure(self._structure_NL[rows], self._stage))

    def _next(self, label: int) -> int:
        """The next real image of the class; of any class if there is none, as for models without classes."""
        images = self._of_class.get(label) or list(range(len(self._structure_NL)))
        turn = self._used.get(label, 0)
        self._used[label] = turn + 1
        return images[turn % len(images)]


def _real_structure(run: StudiedRun, context: Context) -> tuple[Tensor, Tensor]:
    """The finest maps ``[N, L]`` of the held-out images, and their classes ``[N]``."""
    tokenizer: Any = run.folder.load_tokenizer(context.device)
    maps, labels = [], []
    with torch.no_grad():
        for batch in sequential_batches(held_out(run.folder, context), _BATCH):
            maps.append(tokenizer.encode(batch.images_B3HW.to(context.device)).structure_BL)
            labels.append(batch.labels_B)
    return torch.cat(maps), torch.cat(labels)


def _finding(run: str, generated: Row, given: Row) -> Finding:
    difference = given["value"] - generated["value"]
    apart = None not in (given["value_low"], generated["value_low"]) and (
        given["value_high"] < generated["value_low"] or given["value_low"] > generated["value_high"]
    )
    better = (difference > 0) == bool(given["higher_is_better"])
    return Finding(
        text=f"{run}: {generated['metric']} {generated['value']:.4g} with generated structure, {given['value']:.4g} with all "
        f"structure of real images ({difference:+.3g}).",
        verdict="no difference" if difference == 0 else "inconclusive" if not apart else "better" if better else "worse",
        subject=run, metric=generated["metric"], value=difference,
    )  # fmt: skip
