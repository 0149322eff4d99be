"""The studies on the page: question, findings, figures, tables and limits, as their records describe them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nvgbench.reporting import charts
from nvgbench.reporting.charts import Dot, Line
from nvgbench.reporting.figures import Figure
from nvgbench.reporting.quantities import significant
from nvgbench.reporting.tables import BLANK, Cell, Column, Group, Statement, Table, Tone
from nvgbench.results.numbers import of_record
from nvgbench.results.schema import RunRecord
from nvgbench.results.study import Chart, Finding, StudyPage, study_page

Rows = Sequence[Mapping[str, Any]]

_MOST_PANELS = 24
_MOST_ROWS = 200
_FIRST = ("greedy", "quadtree", "random")
"""Clusterings keep their colours in every figure."""
_TONES: dict[str, Tone] = {"better": "better", "worse": "worse", "inconclusive": "inconclusive"}


@dataclass(frozen=True, kw_only=True)
class StudySection:
    """One study of one subject."""

    heading: str
    question: str
    statements: Sequence[Statement]
    figures: Sequence[Figure]
    tables: Sequence[Table]
    design: Sequence[str]
    limits: str


def study_sections(records: Iterable[RunRecord]) -> list[StudySection]:
    """The newest record of every study, subject and data source; records that do not describe their study are left out."""
    newest: dict[tuple[str, str, str], tuple[RunRecord, StudyPage]] = {}
    for record in records:
        page = study_page(record)
        if page is None:
            continue
        key = page.name, record.subject, _data(record)
        if key not in newest or record.created >= newest[key][0].created:
            newest[key] = record, page
    return [_section(record, page, number) for number, (record, page) in enumerate(newest.values())]


def _section(record: RunRecord, page: StudyPage, number: int) -> StudySection:
    figures = [
        figure
        for index, chart in enumerate(page.charts)
        if (figure := _figure(chart, record.tables.get(chart.table, ()), f"study{number}-{index}")) is not None
    ]
    tables = [_table(name, record) for name in page.tables if record.tables.get(name)]
    failed = sum(bool(row.get("error")) for row in record.tables.get("runs", ()))
    statements = [_statement(finding) for finding in page.findings]
    if failed:
        text = f"{failed} of {len(record.tables['runs'])} runs failed and are not part of it; run the study again."
        statements.append(Statement(text=text, tone="warning", word="incomplete"))
    return StudySection(
        heading=f"{page.name}: {record.subject}" + (f" on {_data(record)}" if _data(record) else ""),
        question=page.question,
        statements=statements,
        figures=figures,
        tables=tables,
        design=page.design,
        limits=page.limits,
    )


def _data(record: RunRecord) -> str:
    dataset = record.provenance.get("dataset")
    return str(dataset.get("name", "")) if isinstance(dataset, Mapping) else ""


def _statement(finding: Finding) -> Statement:
    return Statement(text=finding.text, tone=_TONES.get(finding.verdict, "plain"), word=finding.verdict)


def _figure(chart: Chart, rows: Rows, name: str) -> Figure | None:
    """The panels of one chart; None without values."""
    rows = [row for row in rows if row.get(chart.y) is not None and (not chart.only or row.get(chart.series) in chart.only)]
    if not rows:
        return None
    series = _series(rows, chart.series)
    if chart.kind == "dots":
        return Figure(svgs=[_dots(chart, rows, series, name)], caption=chart.caption)
    panels: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        title = " ".join(str(row[column]) for column in chart.panel if row.get(column))
        panels.setdefault(title, []).append(row)
    shown = list(panels.items())[:_MOST_PANELS]
    svgs = [_lines(chart, title, own, series, f"{name}-{index}") for index, (title, own) in enumerate(shown)]
    return Figure(svgs=svgs, caption=chart.caption, legend=[(label, index) for label, index in series.items()])


def _series(rows: Rows, column: str) -> dict[str, int]:
    """Label -> number of its colour."""
    present = dict.fromkeys(str(row.get(column)) for row in rows)
    ordered = [*(name for name in _FIRST if name in present), *(name for name in present if name not in _FIRST)]
    return {name: index % charts.series_count() for index, name in enumerate(ordered)}


def _lines(chart: Chart, title: str, rows: Rows, series: Mapping[str, int], name: str) -> str:
    stem = chart.y.removesuffix("_mean")
    lines, described = [], []
    for label, colour in series.items():
        own = sorted((row for row in rows if str(row.get(chart.series)) == label), key=lambda row: row[chart.x])
        if not own:
            continue
        places, values = [row[chart.x] for row in own], [row[chart.y] for row in own]
        ends = [[row.get(f"{stem}_{end}") for row in own] for end in ("low", "high")]
        banded = any(value is not None for value in ends[0])
        # A point without an interval has a band as thin as the line.
        low, high = ([y if end is None else end for y, end in zip(values, found, strict=True)] for found in ends)
        lines.append(
            Line(label=label, series=colour, x=places, y=values, low=low if banded else None, high=high if banded else None)
        )
        points = (f"{value:.3g} at {place:g} {chart.x}" for place, value in zip(places, values, strict=True))
        described.append(f"{label} {', '.join(points)}")
    return charts.line_chart(
        lines,
        name=name,
        alt=f"{title or chart.label}, {chart.label}: {'; '.join(described)}.",
        title=title or chart.label,
        xlabel=chart.x,
        ylabel=chart.label,
        log_x=chart.log_x,
        y_range=chart.limits,
    )


def _dots(chart: Chart, rows: Rows, series: Mapping[str, int], name: str) -> str:
    stem = chart.y.removesuffix("_mean")
    dots = [
        Dot(
            label=str(row.get(chart.series)), series=series[str(row.get(chart.series))], x=row[chart.y],
            low=row.get(f"{stem}_low"), high=row.get(f"{stem}_high"),
        )
        for row in rows
    ]  # fmt: skip
    described = "; ".join(
        f"{dot.label} {dot.x:.3g}" + ("" if dot.low is None or dot.high is None else f" [{dot.low:.3g}, {dot.high:.3g}]")
        for dot in dots
    )
    return charts.dot_chart(
        dots, name=name, alt=f"{chart.label}: {described}.", title=chart.label, xlabel=chart.label, zero=chart.zero
    )


def _table(name: str, record: RunRecord) -> Table:
    rows = record.tables[name]
    columns = list(dict.fromkeys(key for row in rows for key, value in row.items() if value not in (None, "")))
    numeric = {key: all(isinstance(row.get(key), int | float | None) for row in rows) for key in columns}
    cells = [[_cell(key, row.get(key), record) for key in columns] for row in rows[:_MOST_ROWS]]
    more = len(rows) - _MOST_ROWS
    return Table(
        caption=name.replace("_", " "),
        columns=[Column(label=key.replace("_", " "), number=numeric[key]) for key in columns],
        groups=[Group(rows=cells)],
        notes=[f"{more:,} more rows are in the record."] if more > 0 else [],
    )


def _cell(key: str, value: Any, record: RunRecord) -> Cell:
    if value is None or value == "":
        return BLANK
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(text=str(value))
    text = f"{value:,}" if isinstance(value, int) else significant(value, 4)
    return Cell(text=text, number=of_record(key, value, record))
