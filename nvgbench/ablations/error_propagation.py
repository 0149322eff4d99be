"""The study ``error-propagation``: what the first stages decide, and what later stages repair."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch

from nvgbench.ablations.real_stages import RealStages, WithRealStructure, noisy_codes, noisy_structure, real_stages
from nvgbench.ablations.scoring import sampled_scores
from nvgbench.ablations.study import Conclusion, Context, Row, StudiedRun, Study, Tables
from nvgbench.errors import InputError
from nvgbench.nvg.image_generator import NvgImageGenerator
from nvgbench.results.study import Chart, Finding

STRUCTURE, CONTENT, BOTH = "structure", "content", "content and structure"
NOISE_SHARE = 0.25
"""Share of a stage's codes or of the positions that noise changes."""
GENERATED, KEPT = "generated", "real"


class ErrorPropagation(Study):
    """The first stages of real images, with and without noise; the rest is generated."""

    name = "error-propagation"
    version = 2
    question = "What do the first stages decide, and how much of an error in a stage do later stages repair?"
    varies: ClassVar = {
        "given": "structure, content, or both, of the first stages of training images of the same class; the rest is generated",
        "given stages": "0 (everything is generated) to all",
        "noise": f"{NOISE_SHARE:.0%} of one stage's codes replaced by random ones (at least one), or as many positions "
        "shuffled within the clusters of the stage before",
        "later stages": "generated after the noise, or those of the real image, which repair nothing",
    }
    reports: ClassVar = {
        "repair": "how far noise at a stage moves the score that decides, with later stages generated and with real ones",
        "given_stages": "all scores by what is given and number of given stages, with intervals over images",
        "injected_noise": "all scores with noise at every stage",
    }
    limits = (
        "The given stages are those of training images, which a model with memory could recognise. Content is given by cluster "
        "number, so that content without its structure lands elsewhere in the image. Scores are distances of distributions: "
        "a repaired image need not be the original. Intervals cover other samples."
    )

    def check(self, runs: Sequence[StudiedRun], context: Context) -> None:
        for run in runs:
            if run.folder.config.family != "nvg" or run.folder.state("generator") is None:
                raise InputError(f"{run.folder.name} is no NVG run with a trained generator, which this study needs")

    def measure(self, run: StudiedRun, context: Context) -> Tables:
        generator = run.folder.load_generator(context.device)
        assert isinstance(generator, NvgImageGenerator)
        real = real_stages(run.folder, generator, context)

        def scores(source: Any) -> list[Row]:
            return sampled_scores(run.folder, context, seed=context.seed, split="eval", generator=source)

        given: list[Row] = []
        for what, stages in givens(len(real.indices)):
            source = generator if stages == 0 else give(generator, real, what, stages)
            given += [{"given": what, "given stages": stages} | row for row in scores(source)]
        own = [row for row in given if row["given stages"] == 0]
        given += [row | {"given": what} for row in own for what in (CONTENT, BOTH)]
        noise: list[Row] = []
        for kind, stage, noisy in _noisy(real, len(generator.quantizer.codebook_VC), context.seed):
            for later, stages in ((GENERATED, stage + 1), (KEPT, len(real.indices))):
                rows = scores(give(generator, noisy, BOTH, stages))
                noise += [{"noise": kind, "stage": stage, "later stages": later} | row for row in rows]
        return {"given_stages": given, "injected_noise": noise}

    def conclude(self, tables: Mapping[str, list[Row]]) -> Conclusion:
        rows = tables["given_stages"]
        metric = str(rows[0]["metric"])
        decisive = [row for row in rows if row["metric"] == metric]
        noise = [row for row in tables["injected_noise"] if row["metric"] == metric]
        findings, repair = [], []
        for run in dict.fromkeys(row["run"] for row in decisive):
            own = [row for row in decisive if row["run"] == run]
            findings += [_finding(own, what) for what in (STRUCTURE, CONTENT, BOTH)]
            damages = repairs(own, [row for row in noise if row["run"] == run])
            findings += [_repaired(run, metric, kind, damages) for kind in (CONTENT, STRUCTURE)]
            repair += [{"run": run} | row for row in damages]
        several = ("run",) if len({row["run"] for row in decisive}) > 1 else ()
        charts = [
            Chart(
                table="by_given_stages", x="given stages", series="given", panel=several, label=metric,
                caption=f"{metric} by number of stages that are those of real images. Bands cover other samples from the "
                "same model.",
            ),
            Chart(
                table="repair", x="stage", y="change", series="later stages", panel=(*several, "noise"), label="change",
                caption=f"Change of {metric} by noise at one stage, with later stages generated or those of the real image.",
            ),
        ]  # fmt: skip
        return Conclusion(findings=findings, charts=charts, tables={"by_given_stages": decisive, "repair": repair})


def givens(stages: int) -> Iterator[tuple[str, int]]:
    """What is given, and of how many stages; nothing first. The structure of the first stage is the same in all images."""
    yield STRUCTURE, 0
    for what, first in ((STRUCTURE, 2), (CONTENT, 1), (BOTH, 1)):
        yield from ((what, count) for count in range(first, stages + 1))


def give(generator: NvgImageGenerator, real: RealStages, what: str, stages: int) -> Any:
    """The model whose first stages are real ones."""
    last = 0 if what == CONTENT else stages - 1
    indices = () if what == STRUCTURE else real.indices[:stages]
    return WithRealStructure(generator, real.map(last), real.labels_N, last, indices)


def repairs(given: Sequence[Row], noise: Sequence[Row]) -> list[Row]:
    """Change of the score by noise: rows of noise, stage, later stages and change.

    Without noise, the stages up to the noisy one (or all) are those of the real image as well.
    """
    clean = {row["given stages"]: row["value"] for row in given if row["given"] == BOTH}
    last = max(clean)
    return [
        {
            "noise": row["noise"], "stage": row["stage"], "later stages": row["later stages"],
            "change": row["value"] - clean[row["stage"] + 1 if row["later stages"] == GENERATED else last],
        }
        for row in noise
    ]  # fmt: skip


def _noisy(real: RealStages, codes: int, seed: int) -> Iterator[tuple[str, int, RealStages]]:
    """Noise at every stage but the last, after which nothing could repair it."""
    rng = torch.Generator().manual_seed(seed)
    stages = len(real.indices) - 1
    yield from ((CONTENT, stage, noisy_codes(real, stage, NOISE_SHARE, codes, rng)) for stage in range(stages))
    yield from ((STRUCTURE, stage, noisy_structure(real, stage, NOISE_SHARE, rng)) for stage in range(1, stages))


def _finding(rows: Sequence[Row], what: str) -> Finding:
    own = sorted((row for row in rows if row["given"] == what), key=lambda row: row["given stages"])
    generated, given = own[0], own[-1]
    difference = given["value"] - generated["value"]
    apart = None not in (given["value_low"], generated["value_low"]) and (
        given["value_high"] < generated["value_low"] or given["value_low"] > generated["value_high"]
    )
    better = (difference > 0) == bool(given["higher_is_better"])
    ends = [f"{row['value']:.4g}{_brackets(row)}" for row in (generated, given)]
    return Finding(
        text=f"{given['run']}: {given['metric']} {ends[0]} when all stages are generated, {ends[1]} with the {what} of real "
        f"images at all stages ({difference:+.3g}).",
        verdict="no difference" if difference == 0 else "inconclusive" if not apart else "better" if better else "worse",
        subject=given["run"], metric=given["metric"], value=difference,
    )  # fmt: skip


def _repaired(run: str, metric: str, kind: str, damages: Sequence[Row]) -> Finding:
    changes = {
        later: [row["change"] for row in damages if (row["noise"], row["later stages"]) == (kind, later)]
        for later in (GENERATED, KEPT)
    }
    mean = {later: sum(values) / max(len(values), 1) for later, values in changes.items()}
    return Finding(
        text=f"{run}: noise in the {kind} of one stage changes {metric} by {mean[KEPT]:+.3g} with the later stages of the real "
        f"image and by {mean[GENERATED]:+.3g} with generated ones (means over {len(changes[KEPT])} stages).",
        subject=run, metric=f"{metric}, noise in {kind}", value=mean[GENERATED] - mean[KEPT],
    )  # fmt: skip


def _brackets(row: Row) -> str:
    return "" if row["value_low"] is None else f" [{row['value_low']:.4g}, {row['value_high']:.4g}]"
