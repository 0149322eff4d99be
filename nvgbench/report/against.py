"""Two reports over time: which numbers moved, and whether their intervals say so."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from nvgbench.report.data import OldReport
from nvgbench.report.differences import difference_cell, interval_of, of_difference, tone_of
from nvgbench.report.numbers import Entry, Number, compact
from nvgbench.report.quantities import noise, quantity
from nvgbench.report.tables import BLANK, Cell, Column, Group, Statement, Table
from nvgbench.results.compare import Outcome, Scored, compare, score_key, why_not_comparable
from nvgbench.results.schema import RunRecord
from nvgbench.types import Interval, MetricValue

COMPARED = ("scores", "reconstruction", "codebooks", "by class", "costs")
"""Sections whose numbers are compared; the others follow from these or do not change by themselves."""
_HEADINGS = {
    "worse": "Worse",
    "better": "Better",
    "different": "Changed",
    "inconclusive": "Moved, but within what the intervals leave open, or without intervals",
}
_IN_WORDS = {"not comparable": "Not comparable", "new": "New", "gone": "No longer there"}
"""What is told below the table, as counts."""
_MOST_ROWS = 60
"""Rows under one heading; the rest is in the JSON."""
_MOST_REASONS = 6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Move:
    """What became of a number.

    Attributes:
        metric: what it is; of scores by other protocols than nvgbench's with the protocol, ``FID (adm)``.
        outcome: ``worse``, ``better``, ``different``, ``inconclusive``, ``same``, ``not comparable``, ``new`` or ``gone``.
        reason: a few words.
    """

    section: str
    subject: str
    metric: str
    outcome: str
    old: Entry | None = None
    new: Entry | None = None
    difference: Number | None = None
    reason: str = ""


def moves(old: OldReport, new: Sequence[Entry]) -> list[Move]:
    """Every number of the compared sections of both reports, matched by section, subject, metric and protocol."""
    before = {_place(one): one for one in old.numbers if one.section in COMPARED}
    after = {_place(one): one for one in new if one.section in COMPARED}
    found = [_move(place, before.get(place), entry) for place, entry in after.items()]
    gone = [place for place in before if place not in after]
    return [*found, *(Move(section=s, subject=u, metric=m, outcome="gone", old=before[s, u, m]) for s, u, m in gone)]


def _place(entry: Entry) -> tuple[str, str, str]:
    return entry.section, entry.subject, score_key(entry.number.metric, entry.number.protocol)


def _move(place: tuple[str, str, str], old: Entry | None, new: Entry) -> Move:
    section, subject, metric = place
    if old is None:
        return Move(section=section, subject=subject, metric=metric, outcome="new", new=new)
    decide = _decide_ranges if section == "costs" else _decide
    outcome, difference, reason = decide(old.number, new.number)
    return Move(
        section=section, subject=subject, metric=metric, outcome=outcome, old=old, new=new, difference=difference, reason=reason
    )


def _decide(old: Number, new: Number) -> tuple[str, Number | None, str]:
    """Outcome, difference and reason of a score."""
    left, right = _scored(old), _scored(new)
    reason = why_not_comparable(left, right)
    if reason is not None:
        return "not comparable", None, reason
    found = compare(left, right)
    if found.value == 0:
        return "same", None, ""
    return found.outcome, of_difference(found, right), "" if found.low is not None else "no interval"


def _decide_ranges(old: Number, new: Number) -> tuple[str, Number | None, str]:
    """Measurements: decided where the ranges of the repetitions lie apart."""
    if old.device != new.device:
        return "not comparable", None, f"device differs: {old.device or 'unknown'} and {new.device or 'unknown'}"
    ends = [(n.value, n.value) if n.low is None or n.high is None else (n.low, n.high) for n in (old, new)]
    outcome: Outcome = "inconclusive"
    if ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]:
        better = new.higher_is_better
        outcome = "different" if better is None else "better" if (new.value > old.value) == better else "worse"
    elif old.value == new.value:
        return "same", None, ""
    single = old.low is None and new.low is None
    reason = "one value each" if single else "ranges overlap" if outcome == "inconclusive" else "ranges lie apart"
    change = dataclasses.replace(
        new, metric=f"{new.metric}: difference", value=new.value - old.value, low=None, high=None, covers="", method="",
        verdict=outcome,
    )  # fmt: skip
    return outcome, change, reason


def _scored(number: Number) -> Scored:
    """The number as it was scored, as far as comparing needs it."""
    interval = None
    if number.low is not None and number.high is not None and number.level is not None:
        interval = Interval(number.low, number.high, number.level, number.covers, number.method)
    metric = MetricValue(
        name=number.metric,
        value=number.value,
        n=number.n or 0,
        n_reference=number.n_reference,
        higher_is_better=number.higher_is_better,
        protocol=number.protocol,
        interval=interval,
        unit=number.unit,
    )
    known = {key: value for key in ("extractor", "reference", "dataset") if (value := getattr(number, key))}
    return Scored(metric, RunRecord(kind="eval", subject="", provenance=known, id=number.record, created=number.created))


def move_table(found: Sequence[Move], old: OldReport) -> Table:
    """What moved, the worst first, and below it in words what could not be compared."""
    groups, notes = [], []
    for outcome, heading in _HEADINGS.items():
        own = [move for move in found if move.outcome == outcome]
        if len(own) > _MOST_ROWS:
            notes.append(f"{heading}: {_MOST_ROWS} of {len(own)} are shown; all are in the JSON beside this page.")
        if own:
            groups.append(Group(rows=[_row(move) for move in own[:_MOST_ROWS]], heading=heading))
    if groups:
        notes.append(
            "Better and worse are said of the newer number where the interval of the change leaves out zero; of times and "
            "memory, where the ranges of the repetitions lie apart."
        )
    for outcome, word in _IN_WORDS.items():
        about = Counter(move.reason or f"{move.section} of {move.subject}" for move in found if move.outcome == outcome)
        listed = [f"{reason} ({count})" for reason, count in about.most_common(_MOST_REASONS)]
        rest = [f"{len(about) - _MOST_REASONS} more"] if len(about) > _MOST_REASONS else []
        notes += [f"{word}, {about.total()} numbers: {'; '.join([*listed, *rest])}."] if about else []
    heads = (("subject", False), ("number", False), ("before", True), ("now", True), ("change", True), ("remark", False))
    columns = [Column(label=label, number=number) for label, number in heads]
    caption = f"Against the report \u2018{old.title}\u2019, whose newest record is of {old.newest.replace('T', ' ')[:16]} UTC"
    return Table(caption=caption, columns=columns, groups=groups, notes=notes)


def _row(move: Move) -> list[Cell]:
    # a metric of the row, so that JSON and CSV say which number it is
    def named(number: Number, when: str) -> Number:
        return dataclasses.replace(number, metric=f"{move.metric}, {when}")

    before = BLANK if move.old is None else _value(named(move.old.number, "before"), move.old.shown)
    now = BLANK if move.new is None else _value(named(move.new.number, "now"), move.new.shown)
    change, remark = BLANK, move.reason
    if move.difference is not None and move.old is not None:
        change = _change(move.difference, move.old.number)
        remark = remark or noise(move.difference.covers)
    return [
        Cell(text=move.subject, sub=move.section),
        Cell(text=move.metric),
        before,
        now,
        change,
        Cell(text=remark or "\u2013"),
    ]


def _value(number: Number, shown: str) -> Cell:
    return Cell(text=shown, sub=interval_of(number), number=number)


def _change(number: Number, old: Number) -> Cell:
    if number.unit and number.low is None:
        sign = "+" if number.value > 0 else "\u2212"
        text = f"{sign}{quantity(abs(number.value), number.unit)}"
        share = f"{number.value / old.value:+.1%}".replace("-", "\u2212") if old.value else ""
        return Cell(text=text, sub="\n".join(filter(None, (share, number.verdict))), number=number, tone=tone_of(number))
    if float(number.value).is_integer() and float(old.value).is_integer():  # a count
        return Cell(
            text=f"{number.value:+,.0f}".replace("-", "\u2212"), sub=number.verdict, number=number, tone=tone_of(number)
        )
    return difference_cell(number, old.value)


def move_rows(found: Sequence[Move]) -> list[dict[str, Any]]:
    """All that moved, as JSON holds it."""
    return [
        {
            "section": move.section,
            "subject": move.subject,
            "metric": move.metric,
            "outcome": move.outcome,
            "before": None if move.old is None else move.old.number.value,
            "now": None if move.new is None else move.new.number.value,
            "difference": None if move.difference is None else compact(move.difference),
            "reason": move.reason,
        }
        for move in found
        if move.outcome != "same"
    ]


def move_statement(found: Sequence[Move]) -> Statement:
    """What moved, in one sentence."""
    counts = {outcome: sum(move.outcome == outcome for move in found) for outcome in (*_HEADINGS, *_IN_WORDS, "same")}
    words = {"different": "changed", "inconclusive": "moved without a decision", "same": "unchanged"}
    told = ", ".join(f"{number} {words.get(outcome, outcome)}" for outcome, number in counts.items() if number)
    tone = "worse" if counts["worse"] else "better" if counts["better"] else "plain"
    text = f"Against the older report: {told or 'nothing to compare'}."
    return Statement(text=text, tone=tone, word="Over time")  # type: ignore[arg-type]
