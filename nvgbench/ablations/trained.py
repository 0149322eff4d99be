"""Studies that train variants with several seeds and score their samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import ClassVar

from nvgbench.ablations.findings import compare_variants, difference_rows
from nvgbench.ablations.memory import remembered
from nvgbench.ablations.study import Conclusion, Context, Row, StudiedRun, Study, Tables, Variant
from nvgbench.results.study import Chart, Finding


class TrainedVariants(Study):
    """Base of such studies: a subclass lists its variants.

    ``scores`` has a row per run and score: variant, seed, run, metric, value, higher_is_better. The first score, a Fréchet
    distance, decides; all others are in the table.
    """

    reports: ClassVar = {
        "differences": "every variant minus its baseline in the score that decides, with an interval over training seeds",
        "scores": "all scores of every training",
        "costs": "tokens per image, FLOPs per image in training and sampling, and seconds that the generator's training took; "
        "other jobs on the machine count",
    }

    def probes(self) -> Sequence[Variant]:
        """What is measured on trained variants under another name, in addition to them."""
        return ()

    def measure(self, run: StudiedRun, context: Context) -> Tables:
        scores = remembered("scores", 1, run.folder, context, lambda: {"scores": score_rows(run, context)})
        return scores | {"costs": [cost_row(run, context)]}

    def conclude(self, tables: Mapping[str, list[Row]]) -> Conclusion:
        rows = tables["scores"]
        metric, measured = str(rows[0]["metric"]), {str(row["variant"]) for row in rows}
        probes = self.probes()
        known = (*self.variants(self.preset), *probes)
        # A baseline that failed is not replaced by the next variant.
        variants = [dataclasses.replace(one, baseline=one.baseline or known[0].name) for one in known if one.name in measured]
        decided = [row for row in rows if row["metric"] == metric]
        return conclude_variants(decided, variants, metric, probes=[one.name for one in probes])


def conclude_variants(
    rows: Sequence[Row], variants: Sequence[Variant], metric: str, *, probes: Sequence[str] = ()
) -> Conclusion:
    """Findings on every variant against its baseline, and the figure of their differences.

    Args:
        rows, variants, metric, probes: as `nvgbench.ablations.findings.compare_variants` takes them.
    """
    findings: list[Finding] = compare_variants(rows, variants, metric=metric, probes=probes)
    chart = Chart(
        table="differences", kind="dots", y="value", series="variant", zero=True, label=f"difference in {metric}",
        caption=f"Every variant minus its baseline in {metric}, mean over training seeds. Bars are intervals over "
        "trainings that hold for all comparisons together, with a spread that is assumed to be equal in all variants which "
        "comparisons connect; a dot without a bar has one training or no spread.",
    )  # fmt: skip
    return Conclusion(findings=findings, charts=[chart], tables={"differences": difference_rows(findings)})


def cost_row(run: StudiedRun, context: Context) -> Row:
    """What a training and an image cost, from the configuration; and the time that the training took."""
    from nvgbench.training.dry_run import estimate
    from nvgbench.training.plan import planned_modules

    config, state = run.folder.config, run.folder.state("generator")
    cost = estimate(config, context.device)
    tokens = getattr(planned_modules(config, cost.classes)[0], "stage_tokens", ())
    return {
        "stages": len(tokens),
        "tokens": sum(tokens),
        "training_flops": cost.training_flops,
        "sampling_flops": sum(cost.sampling_flops.values()),
        "generator_seconds": None if state is None else state.seconds,
    }


def score_rows(run: StudiedRun, context: Context, **settings: object) -> list[Row]:
    """Every score of a run's samples, by the held-out images of its own data. The evaluation is recorded with the run.

    Args:
        run: with a trained generator.
        context: number of samples, seed, extractor.
        settings: overrides of the sampling settings.
    """
    from nvgbench.evaluation.evaluate import Evaluator
    from nvgbench.evaluation.options import EvaluationOptions

    options = EvaluationOptions(
        n=context.samples, seed=context.seed, extractor=context.extractor, settings=settings, keep_samples=False
    )
    record = Evaluator(context.root, options, context.device, context.report).run(run.folder)
    assert record is not None  # one process
    return [{"metric": one.name, "value": one.value, "higher_is_better": one.higher_is_better} for one in record.metrics]
