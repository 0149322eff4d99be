"""Tables of the page, before they are HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from nvgbench.results.numbers import Number

Tone = Literal["better", "worse", "inconclusive", "warning", "plain"]


@dataclass(frozen=True, kw_only=True)
class Statement:
    """A sentence of the summary; ``word`` says in text what ``tone`` says in colour."""

    text: str
    tone: Tone = "plain"
    word: str = ""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A table cell.

    Attributes:
        text: the main text.
        sub: small text below it: an interval, a range.
        number: what the text shows, in full precision; the table is sorted by it.
        subject: what the number is about, if not the head of the row.
        best: whether it is the best of its column.
        muted: whether it is a missing value.
        mark: a footnote sign.
        tone: colour of a verdict.
    """

    text: str
    sub: str = ""
    number: Number | None = None
    subject: str = ""
    best: bool = False
    muted: bool = False
    mark: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column's head, with small text ``sub`` below it (n, unit, direction); ``number`` columns are right-aligned."""

    label: str
    sub: str = ""
    number: bool = True


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rows that belong together; the first cell of each row is its head."""

    rows: Sequence[Sequence[Cell]]
    heading: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table with its caption and footnotes."""

    caption: str
    columns: Sequence[Column]
    groups: Sequence[Group]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def empty(self) -> bool:
        return not any(group.rows for group in self.groups)


BLANK = Cell(text="\u2013", muted=True)
"""Not measured."""


def unavailable(mark: str = "") -> Cell:
    """Could not be measured; the footnote ``mark`` says why."""
    return Cell(text="not available", muted=True, mark=mark)


class Footnotes:
    """Footnotes in the order of first use, each once."""

    _SIGNS = "†‡§¶"

    def __init__(self) -> None:
        self._texts: list[str] = []

    def sign(self, text: str) -> str:
        """The sign of the footnote ``text``."""
        if text not in self._texts:
            self._texts.append(text)
        return self._sign(self._texts.index(text))

    def lines(self) -> list[str]:
        return [f"{self._sign(index)} {text}" for index, text in enumerate(self._texts)]

    def _sign(self, index: int) -> str:
        return self._SIGNS[index % len(self._SIGNS)] * (index // len(self._SIGNS) + 1)
