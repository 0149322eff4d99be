"""The study ``sampling``: what guidance, top-p and temperature do to a trained model, and the model at its best guidance."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from nvgbench.ablations.scoring import sampled_scores
from nvgbench.ablations.study import Conclusion, Context, Row, StudiedRun, Study, Tables
from nvgbench.errors import InputError
from nvgbench.results.study import Chart, Finding

_STRENGTHS = (0.0, 0.5, 1.0, 1.5)
"""Guidance 1 + strength · (own guidance - 1): 0 is none, 1 the run's own."""
_TOP_P = (0.5, 0.8, 1.0)
_TEMPERATURES = (0.8, 1.0, 1.2)
_OWN, _BEST = "own", "best guidance"


class Sampling(Study):
    """One-at-a-time sweeps of the sampling settings that a run's family has."""

    name = "sampling"
    version = 2
    question = "Which guidance, top-p and temperature suit a model, and how much do they matter?"
    varies: ClassVar = {
        "guidance": f"every guidance of the family times {', '.join(f'{one:g}' for one in _STRENGTHS)} (its excess over 1)",
        "top_p": f"constant, {', '.join(f'{one:g}' for one in _TOP_P)}; falling from 1 to, and rising to 1 from, each of them "
        "(NVG's schedule over the stages)",
        "temperature": ", ".join(f"{one:g}" for one in _TEMPERATURES),
        "gumbel": "random or deterministic balanced split (NVG)",
    }
    reports: ClassVar = {
        "at_best": "scores on held-out images with the run's own settings and with the best value of every guidance",
        "best": "the best value of every setting by the score that decides, beside the run's own",
        "sweep": "all scores of every value, with intervals over images",
    }
    limits = (
        "Settings are swept one at a time around the run's own, so the best combination may be missed. The sweep's reference "
        "is the training set, so that the best values are not chosen by the held-out images that models are compared with at "
        "their best. Intervals cover other samples, not other trainings."
    )

    def check(self, runs: Any, context: Context) -> None:
        for run in runs:
            if run.folder.state("generator") is None:
                raise InputError(f"{run.folder.name} has no trained generator; train it first")

    def measure(self, run: StudiedRun, context: Context) -> Tables:
        rows: list[Row] = []
        guidances: dict[str, list[tuple[float, dict[str, Any]]]] = {}
        for setting, position, changes in sweeps(run.folder.config.sampling):
            scores = sampled_scores(run.folder, context, seed=context.seed, settings=changes, split="train")
            rows += [{"setting": setting, "position": position, "own": not changes} | row for row in scores]
            if setting.endswith("guidance") and scores[0]["value"] is not None:
                guidances.setdefault(setting, []).append((_badness(scores[0]), changes))
        best: dict[str, Any] = {}
        for found in guidances.values():
            best |= min(found, key=lambda one: one[0])[1]
        held: list[Row] = []
        for name, changes in ((_OWN, {}), (_BEST, best)):
            scores = sampled_scores(run.folder, context, seed=context.seed, settings=changes, split="eval")
            held += [{"settings": name, "guidance": str(changes or "")} | row for row in scores]
        return {"sweep": rows, "at_best": held}

    def conclude(self, tables: Mapping[str, list[Row]]) -> Conclusion:
        rows = tables["sweep"]
        metric = str(rows[0]["metric"])
        decisive = [row for row in rows if row["metric"] == metric]
        best, findings = [], []
        for run in dict.fromkeys(row["run"] for row in decisive):
            mine = [row for row in decisive if row["run"] == run]
            own = next(row for row in mine if row["own"])
            for setting in dict.fromkeys(row["setting"] for row in mine if not row["own"]):
                choices = [row for row in mine if row["setting"] == setting and row["value"] is not None]
                found = min(choices, key=_badness)
                best.append({**found, "own value": own["value"]})
                findings.append(_finding(run, setting, found, own))
        findings += _at_best([row for row in tables["at_best"] if row["metric"] == metric])
        chart = Chart(
            table="sweep_of_decisive", x="position", series="run", panel=("setting",), label=metric,
            caption=f"{metric} against the training set over every setting: strength of guidance (1: the run's own), top-p, "
            "temperature. Bands cover other samples from the same model.",
        )  # fmt: skip
        lines = [row for row in decisive if row["setting"]]
        return Conclusion(findings=findings, charts=[chart], tables={"best": best, "sweep_of_decisive": lines})


def sweeps(sampling: Any) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """Setting, position on its axis, and overrides; first the run's own settings, without a name and overrides."""
    yield "", 1.0, {}
    for entry in dataclasses.fields(sampling):
        name, own = entry.name, getattr(sampling, entry.name)
        schedule = isinstance(own, tuple)
        if name.endswith("guidance"):
            for strength in _STRENGTHS:
                scaled = [1 + strength * (value - 1) for value in (own if schedule else (own,))]
                yield name, strength, {name: scaled if schedule else scaled[0]}
        elif name == "top_p":
            for share in _TOP_P:
                yield name, share, {name: [share, share] if schedule else share}
            for share in _TOP_P if schedule else ():
                yield f"{name} falling", share, {name: [1.0, share]}
                yield f"{name} rising", share, {name: [share, 1.0]}
        elif name == "temperature":
            for value in _TEMPERATURES:
                yield name, value, {name: value}
        elif name == "gumbel":
            for on in (False, True):
                yield name, float(on), {name: on}


def _badness(row: Row) -> float:
    """The value, with its sign changed if higher is better."""
    return float(row["value"]) * (-1 if row["higher_is_better"] else 1)


def _at_best(rows: Sequence[Row]) -> list[Finding]:
    """Every run on held-out images with the guidance that the sweep on the training set chose."""
    values = {(row["run"], row["settings"]): row for row in rows if row["value"] is not None}
    findings = []
    for run in dict.fromkeys(row["run"] for row in rows):
        own, best = values.get((run, _OWN)), values.get((run, _BEST))
        if own is None or best is None:
            continue
        difference = best["value"] - own["value"]
        ends = [f"{row['value']:.4g}{_brackets(row)}" for row in (best, own)]
        findings.append(
            Finding(
                text=f"{run}: on held-out images {best['metric']} is {ends[0]} with the guidance that is best on the training "
                f"set, and {ends[1]} with the run's own.",
                verdict="no difference" if difference == 0 else "different" if _apart(best, own) else "inconclusive",
                subject=run, metric=best["metric"], value=difference,
            )
        )  # fmt: skip
    return findings


def _apart(one: Row, other: Row) -> bool:
    """Whether the intervals do not overlap."""
    if None in (one["value_low"], other["value_low"]):
        return False
    return bool(one["value_high"] < other["value_low"] or one["value_low"] > other["value_high"])


def _brackets(row: Row) -> str:
    return "" if row["value_low"] is None else f" [{row['value_low']:.4g}, {row['value_high']:.4g}]"


def _finding(run: str, setting: str, best: Row, own: Row) -> Finding:
    difference = best["value"] - own["value"]
    return Finding(
        text=f"{run}: the best {setting} is at {best['position']:g} with {best['metric']} {best['value']:.4g}"
        f"{_brackets(best)}; the run's own settings have {own['value']:.4g}.",
        verdict="no difference" if difference == 0 else "different" if _apart(best, own) else "inconclusive",
        subject=run, metric=best["metric"], value=difference,
    )  # fmt: skip
