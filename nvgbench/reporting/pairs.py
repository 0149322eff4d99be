"""Pairwise comparison of models: the difference of every score, with its interval and a verdict in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from itertools import combinations

from nvgbench.reporting.charts import Dot, dot_chart, series_count
from nvgbench.reporting.differences import difference_cell, of_difference
from nvgbench.reporting.figures import Figure
from nvgbench.reporting.quantities import noise
from nvgbench.reporting.scores import Scores, has_value, metric_order, model_order, primary_metric, ranked
from nvgbench.reporting.tables import BLANK, Cell, Column, Footnotes, Group, Statement, Table
from nvgbench.results.compare import Scored, compare, why_not_comparable

FORCED = "forced"
"""Verdict of a difference of scores that are not comparable."""
MOST_PAIRED = 5
"""Largest number of models of which every pair is shown; of more, each is compared with the best only."""


def pair_table(models: Scores, force: bool = False) -> Table | None:
    """The difference of each pair in each score; None if no two models share a score.

    Groups of trainings are compared, not their members. Pairs are rows, or columns if there are fewer of them than of scores,
    which keeps the table narrow. With ``force``, scores that are not comparable get a difference too, marked as forced, with
    the reason below the table.
    """
    models = ranked(models)
    order = model_order(models)
    pairs = list(combinations(order, 2)) if len(order) <= MOST_PAIRED else [(order[0], other) for other in order[1:]]
    names = [name for name in metric_order(models.values()) if any(_both(models, name, *pair) for pair in pairs)]
    if not names:
        return None
    notes = Footnotes()
    covers: dict[str, None] = {}
    rows = []
    for first, other in pairs:
        cells = [_cell(models[first].get(name), models[other].get(name), notes, force) for name in names]
        covers |= dict.fromkeys(noise(cell.number.covers) for cell in cells if cell.number is not None and cell.number.covers)
        pair = f"{other} vs {first}"
        rows.append([Cell(text=pair), *(dataclasses.replace(cell, subject=pair) for cell in cells)])
    heads = [name.replace("[", "\u200b[") for name in names]
    table = [[Cell(text="pair"), *(Cell(text=head) for head in heads)], *rows]
    if len(pairs) < len(names):
        table = [list(column) for column in zip(*table, strict=True)]
        table[0][0] = Cell(text="score")
    columns = [Column(label=cell.text, number=number > 0) for number, cell in enumerate(table[0])]
    note = (
        "First model minus second; better and worse are about the first. The interval of a difference is computed from both "
        "intervals as if they were independent, which is conservative for scores with the same reference."
    )
    note += f" It covers {' or '.join(covers)}." if covers else ""
    return Table(caption="Pairwise differences", columns=columns, groups=[Group(rows=table[1:])], notes=[*notes.lines(), note])


def _both(models: Scores, name: str, first: str, other: str) -> bool:
    return has_value(models[first], name) and has_value(models[other], name)


def _cell(first: Scored | None, other: Scored | None, notes: Footnotes, force: bool) -> Cell:
    if first is None or other is None or first.metric.value is None or other.metric.value is None:
        return BLANK
    reason = why_not_comparable(first, other)
    if reason is not None and not force:
        return Cell(text="not comparable", muted=True, mark=notes.sign(reason))
    if not force and (caution := first.caution or other.caution):
        return Cell(text="unfinished", muted=True, mark=notes.sign(caution))
    reason = reason or first.caution or other.caution or None
    if reason is not None:
        forced = of_difference(compare(first, other, force=True), other)
        cell = difference_cell(dataclasses.replace(forced, verdict=FORCED), first.metric.value)
        return dataclasses.replace(cell, mark=notes.sign(f"forced, do not rely on it: {reason}"), tone="warning")
    return difference_cell(of_difference(compare(first, other), other), first.metric.value)


def forced_statements(table: Table | None) -> list[Statement]:
    """A warning if the table has forced differences."""
    cells = [cell for group in (table.groups if table else ()) for row in group.rows for cell in row]
    count = sum(cell.number is not None and cell.number.verdict == FORCED for cell in cells)
    if not count:
        return []
    text = f"{count} differences between models are of scores that are not comparable; they decide nothing."
    return [Statement(text=text, tone="worse", word="Forced")]


def pair_figure(models: Scores, series: Mapping[str, int]) -> Figure | None:
    """The primary score of each model minus that of the best, with intervals; None if fewer than two are comparable."""
    models = ranked(models)
    name = primary_metric(models)
    if name is None:
        return None
    best, *others = [subject for subject in model_order(models) if has_value(models[subject], name)]
    others = [subject for subject in others if not models[subject][name].caution]
    leading = models[best][name]
    dots, described = [], []
    for other in others:
        if why_not_comparable(leading, models[other][name]) is None:
            found = compare(leading, models[other][name])
            number = series.get(other, 0) % series_count()
            low, high = (None, None) if found.interval is None else (found.interval.low, found.interval.high)
            dots.append(Dot(label=other, series=number, x=found.value, low=low, high=high))
            described.append(f"{other} {found.value:+.3g}, {found.verdict}")
    if not dots:
        return None
    svg = dot_chart(
        dots,
        name="pairs",
        alt=f"{name} minus that of {best}: {'; '.join(described)}.",
        title=f"{name} minus that of {best}",
        xlabel="difference",
        zero=True,
    )
    caption = f"If a bar crosses zero, it is undecided which of the two models has the lower {name}."
    return Figure(svgs=[svg], caption=caption)
