"""Numbers behind the cells of the page, so that page, JSON and CSV cannot disagree: each is written from the same tables."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nvgbench.results.compare import Scored, identity, reference_of
from nvgbench.results.schema import RunRecord
from nvgbench.types import Measurement

if TYPE_CHECKING:
    from nvgbench.report.tables import Table

REPETITIONS = "repetitions"
"""What the range of a measurement covers: its smallest and largest sample, no interval."""


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number of the page in full precision, with what is needed to compare it.

    Attributes:
        metric: what it is, of scores together with ``protocol``; of measurements with the conditions that tell them apart
            (``latency, batch 1``).
        value: in ``unit`` (SI units; none for scores).
        low, high: interval or range, where there is one; ``covers`` says of what: ``sampling``, ``training`` or
            ``repetitions`` (smallest and largest).
        level: of the interval.
        n, n_reference: images behind it.
        extractor, reference, dataset, device: what must agree before two of them are compared.
        verdict: in words, where the number is a difference that decides something.
        record, created: id and time of the record it comes from.
    """

    metric: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None
    level: float | None = None
    covers: str = ""
    method: str = ""
    higher_is_better: bool | None = None
    n: int | None = None
    n_reference: int | None = None
    protocol: str = ""
    extractor: str = ""
    reference: str = ""
    dataset: str = ""
    device: str = ""
    verdict: str = ""
    record: str = ""
    created: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A number and its place: section of the page, subject (the cell's, or the head of its row) and text of its cell."""

    section: str
    subject: str
    shown: str
    number: Number


def of_metric(scored: Scored) -> Number:
    """A score that has a value."""
    metric, record = scored.metric, scored.record
    assert metric.value is not None
    interval = metric.interval
    return Number(
        metric=metric.name,
        value=metric.value,
        unit=metric.unit,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
        level=None if interval is None else interval.level,
        covers="" if interval is None else interval.source,
        method="" if interval is None else interval.method,
        higher_is_better=metric.higher_is_better,
        n=metric.n,
        n_reference=metric.n_reference,
        protocol=metric.protocol,
        extractor=_text(identity(record.provenance.get("extractor"))),
        reference=_text(reference_of(scored)),
        dataset=_text(identity(record.provenance.get("dataset"))),
        record=record.id,
        created=record.created,
        note=metric.note,
    )


def of_measurement(measurement: Measurement, record: RunRecord, device: str) -> Number:
    """The median of a measurement that has samples, with its smallest and largest sample."""
    samples = measurement.samples
    batch = measurement.conditions.get("batch_size")
    return Number(
        metric=measurement.name if batch is None else f"{measurement.name}, batch {batch}",
        value=measurement.median,
        unit=measurement.unit,
        low=min(samples) if len(samples) > 1 else None,
        high=max(samples) if len(samples) > 1 else None,
        covers=REPETITIONS if len(samples) > 1 else "",
        method=f"{len(samples)} repetitions" if len(samples) > 1 else "",
        higher_is_better=measurement.higher_is_better,
        device=device,
        record=record.id,
        created=record.created,
        note=measurement.note,
    )


def of_record(metric: str, value: float, record: RunRecord, unit: str = "", **more: Any) -> Number:
    """A number from a record's tables."""
    return Number(metric=metric, value=float(value), unit=unit, record=record.id, created=record.created, **more)


def _text(found: Any) -> str:
    return "" if found is None else str(found)


def entries(tables: Mapping[str, Sequence[Table]]) -> list[Entry]:
    """Every number of the ``tables``, by section, in the page's order."""
    return [
        Entry(section=section, subject=cell.subject or row[0].text, shown=cell.text, number=cell.number)
        for section, members in tables.items()
        for table in members
        for group in table.groups
        for row in group.rows
        for cell in row
        if cell.number is not None
    ]


def compact(number: Number) -> dict[str, Any]:
    """The number as JSON holds it: without what is not known."""
    return {key: value for key, value in dataclasses.asdict(number).items() if value is not None and value != ""}


def as_tree(entry: Entry) -> dict[str, Any]:
    """The entry as JSON holds it."""
    return {"section": entry.section, "subject": entry.subject, **compact(entry.number), "shown": _plain(entry.shown)}


def _as_row(entry: Entry) -> dict[str, Any]:
    return {
        "section": entry.section,
        "subject": entry.subject,
        **dataclasses.asdict(entry.number),
        "shown": _plain(entry.shown),
    }


def _plain(shown: str) -> str:
    return shown.replace("\u202f", " ").replace("\u200b", "")


def as_csv(found: Iterable[Entry]) -> str:
    """A header and one line a number; empty where something is not known."""
    names = ["section", "subject", *(field.name for field in dataclasses.fields(Number)), "shown"]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_as_row(entry) for entry in found)
    return buffer.getvalue()
