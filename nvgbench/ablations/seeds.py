"""The study ``seeds``: how much of a score's noise comes from training, how much from sampling, and what can be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from scipy.special import stdtrit

from nvgbench.ablations.scoring import sampled_scores
from nvgbench.ablations.study import Conclusion, Context, Row, StudiedRun, Study, Tables, Variant
from nvgbench.results.study import Chart, Finding

SAMPLINGS = 3
"""Sampling seeds per training."""
_ALPHA, _POWER = 0.05, 0.8


class Seeds(Study):
    """N trainings of one configuration, each sampled several times."""

    name = "seeds"
    question = "How far do scores move if a model is trained or sampled again, and which difference can this budget tell?"
    varies: ClassVar = {
        "training seed": "of tokenizer and generator, as many as the budget has",
        "sampling seed": f"{SAMPLINGS} per training",
    }
    reports: ClassVar = {
        "variances": "variance of every score between trainings and between samplings of one training, and the smallest "
        "difference between two models that this many trainings of each tell with a probability of 80 %",
        "scores": "every score of every sampling",
    }
    limits = "Variances of few trainings are rough: with three of them, the true one may be a quarter or forty times as large."

    def variants(self, preset: str) -> Sequence[Variant]:
        return (Variant(name="the model"),)

    def measure(self, run: StudiedRun, context: Context) -> Tables:
        rows: list[Row] = []
        for number in range(SAMPLINGS):
            seed = context.seed + number
            rows += [{"sampling": seed} | row for row in sampled_scores(run.folder, context, seed=seed, split="eval")]
        return {"scores": rows}

    def conclude(self, tables: Mapping[str, list[Row]]) -> Conclusion:
        rows = tables["scores"]
        metrics = list(dict.fromkeys(str(row["metric"]) for row in rows))
        variances = [variance_row([row for row in rows if row["metric"] == metric], metric) for metric in metrics]
        decided = [row for row in rows if row["metric"] == metrics[0]]
        dots = [{**row, "place": f"training {row['seed']}, sampling {row['sampling']}"} for row in decided]
        chart = Chart(
            table="samplings", kind="dots", series="place", label=metrics[0],
            caption=f"{metrics[0]} of every sampling of every training. Bars cover the images of one sampling.",
        )  # fmt: skip
        return Conclusion(findings=[_finding(variances[0])], charts=[chart], tables={"variances": variances, "samplings": dots})


def variance_row(rows: Sequence[Row], metric: str) -> Row:
    """The variance of a score, split by a one-way analysis of variance with random effects; None where it cannot be estimated.

    ``detectable`` is the smallest difference of two models' means that a two-sided test at 5 % finds with a probability of
    about 80 % (77 % with two trainings), if both have as many trainings N and samplings M:
    (t(0.975) + t(0.8)) · sqrt(2 / N · (between + within / M)), with 2 (N - 1) degrees of freedom.
    """
    by_training: dict[int, list[float]] = {}
    for one in rows:
        by_training.setdefault(int(one["seed"]), []).append(float(one["value"]))
    values_NM = np.array(list(by_training.values()))
    trainings, samplings = values_NM.shape
    row: Row = {"metric": metric, "trainings": trainings, "samplings": samplings, "mean": float(values_NM.mean())}
    within = float(values_NM.var(axis=1, ddof=1).mean()) if samplings > 1 else None
    if trainings < 2 or within is None:
        return row | {"between trainings": None, "within training": within, "training share": None, "detectable": None}
    of_means = float(values_NM.mean(1).var(ddof=1))  # estimates between + within / M
    between = max(of_means - within / samplings, 0.0)
    degrees = 2 * (trainings - 1)
    reach = float(stdtrit(degrees, 1 - _ALPHA / 2) + stdtrit(degrees, _POWER))
    total = between + within
    return row | {
        "between trainings": between,
        "within training": within,
        "training share": between / total if total else None,
        # Not from `of_means` alone: below what sampling explains, it is so by chance.
        "detectable": reach * float(np.sqrt(2 / trainings * (between + within / samplings))),
    }


def _finding(row: Row) -> Finding:
    metric, n = row["metric"], row["trainings"]
    if n < 2:
        text = f"{metric} {row['mean']:.4g} from one training: nothing is known about other trainings."
        return Finding(text=text, verdict="inconclusive", metric=metric, n=n)
    if row["training share"] is None:
        text = f"{metric} is {row['mean']:.4g} in every training and sampling."
        return Finding(text=text, verdict="no difference", metric=metric, n=n)
    return Finding(
        text=f"Of the variance of {metric} (mean {row['mean']:.4g}), {row['training share']:.0%} comes from training and the "
        f"rest from sampling; {n} trainings of two models tell a difference of {row['detectable']:.3g} with a probability "
        "of 80 %.",
        metric=metric, value=row["detectable"], n=n,
    )  # fmt: skip
