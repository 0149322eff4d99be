"""Scores over time: the evaluations of each model in order, and the steps in them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvgbench.errors import InputError
from nvgbench.files import StrPath
from nvgbench.reporting import charts
from nvgbench.reporting.charts import Line
from nvgbench.reporting.data import FORMAT
from nvgbench.reporting.figures import Figure
from nvgbench.reporting.quantities import decimals, ends_text, score, signed
from nvgbench.reporting.steps import FEWEST, Step, find_steps
from nvgbench.reporting.tables import Cell, Column, Group, Statement, Table, Tone
from nvgbench.results.compare import Scored
from nvgbench.results.numbers import NUMBER_FIELDS, Number, of_metric
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import score_rank

_FEWEST = 3
"""Values of a model from which its history is shown."""
_MOST_PANELS = 12
_IDENTITY = ("protocol", "extractor", "reference", "dataset", "n", "n_reference")
"""Fields that must agree with the newest value's; what differs is no history of the same number."""

Histories = Mapping[str, Mapping[str, Sequence[Number]]]
"""Score -> subject -> its values, oldest first."""


@dataclass(frozen=True, kw_only=True)
class History:
    """The section: a chart per score, a table of steps, and a sentence per step."""

    figure: Figure
    table: Table
    statements: Sequence[Statement]


def earlier_numbers(files: Iterable[StrPath]) -> list[tuple[str, Number]]:
    """Subjects and scores in the JSON files of earlier reports.

    Raises:
        InputError: a file that is no such JSON.
    """
    found = []
    for file in map(Path, files):
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
            if document["format"] != FORMAT:
                raise ValueError(f"format {document['format']!r}")
            for one in document["numbers"]:
                if one["section"] == "scores":
                    fields = {key: value for key, value in one.items() if key in NUMBER_FIELDS}
                    found.append((str(one["subject"]), Number(**fields)))
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"`history={file}` is not the JSON of a report ({reason}); give the .json beside an earlier page"
            ) from None
    return found


def histories(records: Iterable[RunRecord], earlier: Iterable[tuple[str, Number]] = ()) -> Histories:
    """The values of every score of every subject that has at least three comparable ones.

    Args:
        records: all records, not only the newest; groups of trainings are left out.
        earlier: see `earlier_numbers`; numbers of records that are known are not counted twice.
    """
    every: dict[str, dict[str, dict[str, Number]]] = {}
    numbers = [
        (record.subject, of_metric(Scored(metric, record)))
        for record in records
        if record.kind == "eval" and "repeated" not in record.provenance  # means over several evaluations
        for metric in record.metrics
        if metric.value is not None
    ]
    for subject, number in (*earlier, *numbers):
        every.setdefault(number.metric, {}).setdefault(subject, {})[number.record] = number
    found: dict[str, dict[str, list[Number]]] = {}
    for name in sorted(every, key=score_rank):
        for subject, by_record in every[name].items():
            values = sorted(by_record.values(), key=lambda number: number.created)
            values = [one for one in values if _identity(one) == _identity(values[-1])]
            if len(values) >= _FEWEST:
                found.setdefault(name, {})[subject] = values
    return found


def history_section(found: Histories, series: Mapping[str, int]) -> History | None:
    """What the page shows of them; None if nothing was scored three times."""
    if not found:
        return None
    shown = list(found.items())[:_MOST_PANELS]
    svgs = [_panel(f"history{number}", name, of_subject, series) for number, (name, of_subject) in enumerate(shown)]
    subjects = dict.fromkeys(subject for _, of_subject in shown for subject in of_subject)
    legend = [(subject, series.get(subject, 0) % charts.series_count()) for subject in subjects]
    caption = (
        "Every comparable evaluation, in the order of time; bands are the values' intervals. "
        f"Steps are looked for in {FEWEST} values or more."
    )
    steps = [
        (subject, values, step)
        for of_subject in found.values()
        for subject, values in of_subject.items()
        for step in find_steps([one.value for one in values])
    ]
    statements = [_statement(*one) for one in steps]
    return History(figure=Figure(svgs=svgs, caption=caption, legend=legend), table=_table(steps), statements=statements)


def _identity(number: Number) -> tuple[Any, ...]:
    return tuple(getattr(number, field) for field in _IDENTITY)


def _panel(name: str, metric: str, of_subject: Mapping[str, Sequence[Number]], series: Mapping[str, int]) -> str:
    lines, described = [], []
    for subject, values in of_subject.items():
        places = [float(place) for place in range(1, len(values) + 1)]
        low, high = ([one.value if end is None else end for one, end in zip(values, ends, strict=True)]
                     for ends in ([one.low for one in values], [one.high for one in values]))  # fmt: skip
        lines.append(
            Line(label=subject, series=series.get(subject, 0), x=places, y=[one.value for one in values], low=low, high=high)
        )
        described.append(f"{subject} {score(values[0].value)} to {score(values[-1].value)} over {len(values)} evaluations")
    return charts.line_chart(
        lines, name=name, alt=f"{metric} over time: {'; '.join(described)}.", title=metric, xlabel="evaluation"
    )


def _table(steps: Sequence[tuple[str, Sequence[Number], Step]]) -> Table:
    rows = [
        [
            Cell(text=subject),
            Cell(text=values[0].metric),
            Cell(text=_date(values[step.place]), sub=f"record {values[step.place].record}"),
            Cell(text=_span(values, step)),
            Cell(text=score(step.before)),
            Cell(text=score(step.after)),
            Cell(text=_change(step), sub=f"[{_ends(step)}]", tone=_tone(values, step)),
            Cell(text=f"{step.p:.3f}"),
        ]
        for subject, values, step in steps
    ]
    columns = [
        Column(label="model", number=False),
        Column(label="score", number=False),
        Column(label="first value after the step", number=False),
        Column(label="place", sub="95 % interval", number=False),
        Column(label="mean before"),
        Column(label="mean after"),
        Column(label="change", sub="95 % interval, given the place"),
        Column(label="p", sub="permutation test"),
    ]
    note = "The place of a step is the first evaluation after it; values are taken as independent, with one variance."
    return Table(caption="Steps", columns=columns, groups=[Group(rows=rows)], notes=[note] if rows else [])


def _statement(subject: str, values: Sequence[Number], step: Step) -> Statement:
    tone = _tone(values, step)
    word = {"better": "Better since", "worse": "Worse since"}.get(tone, "Step")
    text = (
        f"{values[0].metric} of {subject} changed by {_change(step)} [{_ends(step)}] at {_date(values[step.place])} "
        f"(95 % interval of the place: {_span(values, step)})."
    )
    return Statement(text=text, tone=tone, word=word)


def _tone(values: Sequence[Number], step: Step) -> Tone:
    higher = values[0].higher_is_better
    if higher is None:
        return "warning"
    return "better" if (step.after > step.before) == higher else "worse"


def _change(step: Step) -> str:
    change = step.after - step.before
    return signed(change, f"{abs(change):.{decimals(step.before)}f}")


def _ends(step: Step) -> str:
    return ends_text(step.low, step.high, step.before).strip("[]")


def _span(values: Sequence[Number], step: Step) -> str:
    first, last = _date(values[step.first]), _date(values[step.last])
    return first if first == last else f"{first} to {last}"


def _date(number: Number) -> str:
    return number.created.replace("T", " ")[:16]
