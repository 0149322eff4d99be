"""Scores by class and codebook use by stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nvgbench.reporting.quantities import count, score
from nvgbench.reporting.tables import BLANK, Cell, Column, Group, Table, unavailable
from nvgbench.results.numbers import of_record
from nvgbench.results.schema import RunRecord

_RowsOf = tuple[RunRecord, Sequence[Mapping[str, Any]]]
"""A record and the rows of one of its tables."""


def codebook_table(records: Iterable[RunRecord]) -> Table | None:
    """Codebook use by stage, from tables whose rows have ``stage`` and ``use``: the newest of each subject."""
    rows_of = {subject: found for (subject, _), found in _newest_rows(records, {"stage", "use"}).items()}
    if not rows_of:
        return None
    names = {str(row["stage"]) for _, rows in rows_of.values() for row in rows}
    stages = sorted(names, key=lambda stage: (not stage.isdigit(), stage.zfill(4)))
    lines = []
    for subject, (record, rows) in rows_of.items():
        by_stage = {str(row["stage"]): row for row in rows}
        lines.append([Cell(text=subject), *(_use(by_stage.get(stage), record) for stage in stages)])
    columns = [Column(label="tokenizer", number=False)]
    columns += [Column(label=f"stage {stage}" if stage.isdigit() else f"{stage} stages") for stage in stages]
    note = (
        "Share of the codebook that the held-out images use; below it the perplexity of the codes. Early stages have few "
        "tokens per image, so only few codes can be used at all."
    )
    return Table(caption="Codebook use by stage", columns=columns, groups=[Group(rows=lines)], notes=[note])


def codebook_use(records: Iterable[RunRecord]) -> dict[str, tuple[float, RunRecord]]:
    """Subject -> share of the codebook that the first of several stages uses, and the record it comes from."""
    found = {}
    for (subject, _), (record, rows) in _newest_rows(records, {"stage", "use"}).items():
        stages = sorted((int(row["stage"]), row["use"]) for row in rows if str(row["stage"]).isdigit())
        if len(stages) > 1 and isinstance(stages[0][1], int | float):
            found[subject] = (float(stages[0][1]), record)
    return found


def _use(row: Mapping[str, Any] | None, record: RunRecord) -> Cell:
    use = None if row is None else row.get("use")
    if row is None or not isinstance(use, int | float):
        return BLANK if row is None else unavailable()
    perplexity = row.get("perplexity")
    below = count(round(perplexity)) if isinstance(perplexity, int | float) else ""
    return Cell(text=f"{use:.1%}", sub=below, number=of_record(f"codebook use, stage {row['stage']}", use, record))


def class_tables(records: Iterable[RunRecord]) -> list[Table]:
    """Scores by class, from tables whose rows have ``class`` and ``value``: one table per score, one row per model."""
    by_score: dict[str, dict[str, _RowsOf]] = {}
    for (subject, name), found in _newest_rows(records, {"class", "value"}).items():
        by_score.setdefault(name, {})[subject] = found
    tables = []
    for name, rows_of in by_score.items():
        labels = list(dict.fromkeys(row["class"] for _, rows in rows_of.values() for row in rows))
        lines = []
        for subject, (record, rows) in rows_of.items():
            by_class = {row["class"]: row for row in rows}
            lines.append([Cell(text=subject), *(_class_cell(name, by_class.get(label), record) for label in labels)])
        columns = [Column(label="model", number=False), *(Column(label=str(label)) for label in labels)]
        tables.append(Table(caption=name, columns=columns, groups=[Group(rows=lines)]))
    return tables


def _class_cell(name: str, row: Mapping[str, Any] | None, record: RunRecord) -> Cell:
    value = None if row is None else row["value"]
    if row is None or not isinstance(value, int | float):
        return BLANK
    counts = {key: row[key] for key in ("n", "n_reference") if isinstance(row.get(key), int)}
    return Cell(text=score(value), number=of_record(f"{name}: {row['class']}", value, record, **counts))


def _newest_rows(records: Iterable[RunRecord], keys: set[str]) -> dict[tuple[str, str], _RowsOf]:
    """``(subject, table's name)`` -> the newest record with a table whose rows have the ``keys``, in the subjects' order."""
    found: dict[tuple[str, str], _RowsOf] = {}
    for record in records:
        for name, rows in record.tables.items():
            place = (record.subject, name)
            if rows and keys <= set(rows[0]) and (place not in found or record.created >= found[place][0].created):
                found[place] = (record, rows)
    return found
