"""The numbers of the page with their places: page, JSON and CSV are written from the same tables, so they cannot disagree."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nvgbench.reporting.tables import Table
from nvgbench.results.numbers import NUMBER_FIELDS, Number
from nvgbench.results.records import frame_of


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A number and its place: section of the page, subject (the cell's, or the head of its row) and text of its cell."""

    section: str
    subject: str
    shown: str
    number: Number


def entries(tables: Mapping[str, Sequence[Table]]) -> list[Entry]:
    """Every number of the ``tables``, by section, in the page's order."""
    return [
        Entry(section=section, subject=cell.subject or row[0].text, shown=_plain(cell.text), number=cell.number)
        for section, members in tables.items()
        for table in members
        for group in table.groups
        for row in group.rows
        for cell in row
        if cell.number is not None
    ]


def compact(number: Number) -> dict[str, Any]:
    """The number for JSON, without what is unknown."""
    return {key: value for key, value in dataclasses.asdict(number).items() if value is not None and value != ""}


def as_tree(entry: Entry) -> dict[str, Any]:
    """The entry for JSON."""
    return {"section": entry.section, "subject": entry.subject, **compact(entry.number), "shown": entry.shown}


def as_csv(found: Iterable[Entry]) -> str:
    """A header and one line per number; unknown fields are empty."""
    rows = [{**vars(entry), **vars(entry.number)} for entry in found]
    return frame_of(rows, ["section", "subject", *NUMBER_FIELDS, "shown"]).to_csv(index=False, lineterminator="\n")


def _plain(shown: str) -> str:
    """Without the page's narrow spaces and line-break marks."""
    return shown.replace("\u202f", " ").replace("\u200b", "")
