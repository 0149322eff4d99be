"""The table of scores: models by metric, with intervals, best values and footnotes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from nvgbench.reporting.quantities import covered_text, interval_text, score
from nvgbench.reporting.scores import (
    ANCHOR,
    Scores,
    has_value,
    metric_order,
    model_order,
    most_comparable,
    ranked,
    single_trainings,
)
from nvgbench.reporting.tables import BLANK, Cell, Column, Footnotes, Group, Table, unavailable
from nvgbench.results.compare import Scored, why_not_comparable
from nvgbench.results.numbers import of_metric

_NUMBER = re.compile(r"-?\d[\d.]*(e[+-]?\d+)?")


def score_table(models: Scores, anchors: Scores, caption: str) -> Table:
    """Models (best first) by metric; below them, under their own headings, members of training groups and anchors.

    Values that are not comparable with the rest of their column have a footnote.
    """
    names = metric_order([*models.values(), *anchors.values()])
    notes = Footnotes()
    norms = {name: most_comparable(name, {**models, **anchors}) for name in names}
    best = {name: _best(name, ranked(models), norms[name]) for name in names}
    images = {norm.metric.n for norm in norms.values()}
    references = {norm.metric.n_reference for norm in norms.values() if norm.metric.n_reference}
    uniform = len(images) == 1 and len(references) <= 1
    if uniform:
        caption = f"{caption}: {_counts(*images, *references)}"
    covered = {name: _covered(name, {**models, **anchors}) for name in names}
    shared = next(iter(covered.values()), "") if len(set(covered.values())) == 1 else ""
    if shared:
        caption = f"{caption}; below each value its {shared}"
    columns = [
        Column(label="model", number=False),
        *(_column(name, norms[name], "" if shared else covered[name], not uniform) for name in names),
    ]
    order, single = model_order(models), single_trainings(models)
    groups = [Group(rows=[_row(s, models[s], covered, norms, best, notes) for s in order if s not in single])]
    if single:
        rows = [_row(subject, single[subject], covered, norms, {}, notes) for subject in order if subject in single]
        groups.append(Group(heading="Single trainings of the groups above", rows=rows))
    if anchors:
        rows = [_row(subject, anchors[subject], covered, norms, {}, notes) for subject in anchors]
        groups.append(Group(heading="Anchors, for scale (none is a trained model)", rows=rows))
    remarks = [_remark(name, {**models, **anchors}) for name in names]
    return Table(caption=caption, columns=columns, groups=groups, notes=[*notes.lines(), *filter(None, remarks)])


def _row(
    subject: str,
    metrics: Mapping[str, Scored],
    covered: Mapping[str, str],
    norms: Mapping[str, Scored],
    best: Mapping[str, float | None],
    notes: Footnotes,
) -> list[Cell]:
    record = next(iter(metrics.values())).record
    cells = [Cell(text=subject, sub="" if record.family == ANCHOR else record.family)]
    for name, in_head in covered.items():
        if name not in metrics:
            cells.append(BLANK)
            continue
        metric = metrics[name].metric
        reason = why_not_comparable(norms[name], metrics[name])
        mark = notes.sign(f"not comparable with the rest of the column: {reason}") if reason else ""
        if caution := metrics[name].caution:
            mark += notes.sign(caution)
        if metric.value is None:
            mark = mark or (notes.sign(metric.note) if metric.note else "")
            cells.append(unavailable(mark))
            continue
        covers = "" if in_head else covered_text(metric.interval)
        cells.append(
            Cell(
                text=score(metric.value),
                sub=f"{interval_text(metric.interval, metric.value)}\n{covers}".strip(),
                number=of_metric(metrics[name]),
                best=reason is None and not caution and metric.value == best.get(name),
                mark=mark,
            )
        )
    return cells


def _column(name: str, norm: Scored, covered: str, with_counts: bool) -> Column:
    direction = {True: "higher is better", False: "lower is better", None: ""}[norm.metric.higher_is_better]
    counts = _counts(norm.metric.n, norm.metric.n_reference) if with_counts else ""
    # A line may break before the extractor.
    label = f"{name}, {norm.metric.unit}" if norm.metric.unit else name.replace("[", "\u200b[")
    return Column(label=label, sub="; ".join(part for part in (direction, counts, covered) if part))


def _counts(n: int, n_reference: int | None = None) -> str:
    return f"n = {n:,}" + (f" against {n_reference:,} reference images" if n_reference else "")


def _best(name: str, models: Scores, norm: Scored) -> float | None:
    higher = norm.metric.higher_is_better
    values = [
        metrics[name].metric.value
        for metrics in models.values()
        if name in metrics and not metrics[name].caution and why_not_comparable(norm, metrics[name]) is None
    ]
    finite = [value for value in values if value is not None]
    if higher is None or len(set(finite)) < 2:
        return None
    return max(finite) if higher else min(finite)


def _covered(name: str, scores: Scores) -> str:
    """What the intervals of a column cover; empty if they differ."""
    found = {covered_text(metrics[name].metric.interval) for metrics in scores.values() if has_value(metrics, name)}
    return found.pop() if len(found - {""}) == 1 == len(found) else ""


def _remark(name: str, scores: Scores) -> str:
    """The records' notes on one score, each once, with its models.

    Notes that differ only in numbers are reduced to what they share; the numbers are in the data.
    """
    notes = {subject: metrics[name].metric.note for subject, metrics in scores.items() if has_value(metrics, name)}
    shared = _shared(list(notes.values()))
    subjects_of: dict[str, list[str]] = {}
    for subject, note in notes.items():
        subjects_of.setdefault(shared or note, []).append(subject)
    parts = [
        note if len(subjects) == len(notes) else f"{note} ({', '.join(subjects)})"
        for note, subjects in subjects_of.items()
        if note
    ]
    return f"{name}: {'; '.join(parts)}." if parts else ""


def _shared(notes: Sequence[str]) -> str:
    """The parts between commas that all notes share; empty unless the notes differ only in numbers."""
    if len({_NUMBER.sub("#", note) for note in notes}) != 1:
        return ""
    parts = [note.split(", ") for note in notes]
    return ", ".join(one[0] for one in zip(*parts, strict=True) if len(set(one)) == 1)
