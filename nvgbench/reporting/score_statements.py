"""What the headline score decides, in sentences of the summary."""

from __future__ import annotations

from collections.abc import Mapping

from nvgbench.reporting.quantities import decimals
from nvgbench.reporting.scores import Scores, has_value, model_order, primary_metric, ranked, value_text
from nvgbench.reporting.tables import Statement
from nvgbench.results.compare import Difference, Scored, compare, why_not_comparable
from nvgbench.types import Interval

_REAL = "real"
"""How the name of the anchor begins that no model is expected to beat."""


def score_statements(models: Scores, anchors: Scores) -> list[Statement]:
    """What the primary score decides, in words."""
    models = ranked(models)
    name = primary_metric(models)
    if name is None:
        text = "No model has been scored yet; run 'nvgbench eval RUN'."
        return [Statement(text=text, tone="warning", word="No scores")]
    scored = [subject for subject in model_order(models) if has_value(models[subject], name)]
    cautions = {subject: models[subject][name].caution for subject in scored if models[subject][name].caution}
    set_aside = [
        Statement(text=f"{name} of {subject} is not ranked: {caution}.", tone="warning", word="Not ranked")
        for subject, caution in cautions.items()
    ]
    finished = [subject for subject in scored if subject not in cautions]
    if not finished:
        return set_aside
    best, *others = finished
    leading = models[best][name]
    value = f"{value_text(leading)}, n = {leading.metric.n:,}"
    statements = [
        *set_aside,
        Statement(text=f"{best} has the lowest {name}: {value}.", tone="better", word="Lowest")
        if others
        else Statement(text=f"{best} is the only model with a score: {name} {value}.", word="Measured"),
    ]
    statements += [_compared(best, other, leading, models[other][name]) for other in others]
    scale = [f"{subject} {value_text(metrics[name])}" for subject, metrics in anchors.items() if has_value(metrics, name)]
    if scale:
        statements.append(Statement(text=f"For scale, {name} of the anchors: {'; '.join(scale)}.", word="Anchors"))
    statements += _below_anchors(best, leading, anchors, name)
    return [*statements, *_interval_statements({subject: models[subject][name].metric.interval for subject in (best, *others)})]


def _compared(best: str, other: str, leading: Scored, trailing: Scored) -> Statement:
    reason = why_not_comparable(leading, trailing)
    if reason is not None:
        text = f"{other} ({value_text(trailing)}) cannot be compared with {best}: {reason}."
        return Statement(text=text, tone="warning", word="Not comparable")
    found = compare(leading, trailing)
    gap = _gap_text(found)
    if found.verdict == "worse":
        text = f"{other} ({value_text(trailing)}) is worse than {best} by {gap}."
        return Statement(text=text, tone="worse", word="Worse")
    why = "noise alone could explain it" if found.interval is not None else "without intervals nothing can be decided"
    text = f"{other} ({value_text(trailing)}) compared with {best}: the difference is {gap}; {why}."
    return Statement(text=text, tone="inconclusive", word="Inconclusive")


def _gap_text(found: Difference) -> str:
    """The difference and its interval, with as many decimals as the scores."""
    assert found.baseline.value is not None
    places = decimals(found.baseline.value)
    interval = "" if found.interval is None else f" [{found.interval.low:.{places}f}, {found.interval.high:.{places}f}]"
    return f"{abs(found.value):.{places}f}{interval}"


def _below_anchors(best: str, leading: Scored, anchors: Scores, name: str) -> list[Statement]:
    """A warning if even the best model is not clearly better than an anchor that has learned nothing."""
    names = []
    for subject, metrics in anchors.items():
        if subject.startswith(_REAL) or not has_value(metrics, name) or why_not_comparable(leading, metrics[name]):
            continue
        if compare(leading, metrics[name]).verdict != "worse":
            names.append(f"{subject} ({value_text(metrics[name])})")
    if not names:
        return []
    text = f"{best}, the best model, is not clearly better than {', '.join(names)}, which has learned nothing."
    return [Statement(text=text, tone="worse", word="Not above chance")]


def _interval_statements(intervals: Mapping[str, Interval | None]) -> list[Statement]:
    """What the models' intervals cover, and for which models if that differs."""
    subjects_of: dict[tuple[str, float], list[str]] = {}
    methods: dict[tuple[str, float], str] = {}
    for subject, interval in intervals.items():
        if interval is not None:
            subjects_of.setdefault((interval.source, interval.level), []).append(subject)
            methods.setdefault((interval.source, interval.level), interval.method)
    statements = []
    for (source, level), subjects in subjects_of.items():
        covers = {
            "sampling": "other images from the same models; retraining a model may move its score further",
            "training": "other trainings of the same models",
        }.get(source, source)
        whose = "Intervals" if len(subjects_of) == 1 else f"Intervals of {', '.join(subjects)}"
        text = f"{whose} are {level:.0%} ({methods[source, level]}) and cover {covers}."
        statements.append(Statement(text=text, word="Intervals"))
    return statements
