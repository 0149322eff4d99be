"""Scores and measurements as numbers of one shape, with all that is needed to compare them. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nvgbench.results.compare import Scored, identity, reference_of
from nvgbench.results.schema import RunRecord
from nvgbench.types import Measurement

REPETITIONS = "repetitions"
"""What the range of a measurement covers: from its smallest to its largest sample."""


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number in full precision, with what is needed to compare it; a row of the CSV files and of `Records.to_frame`.

    Attributes:
        metric: what it is. Scores are identified together with ``protocol``, measurements by their conditions
            (``latency, batch 1``, ``training_time, generator, batch 32``).
        value: in ``unit`` (SI units; empty for most scores); NaN if it could not be computed, and then ``note`` says why.
        low, high: interval or range, if any; ``covers`` says of what: ``sampling``, ``training`` or ``repetitions`` (smallest
            and largest).
        level: of the interval.
        n, n_reference: images behind it.
        extractor, reference, dataset, device: what must agree for two of them to be comparable.
        verdict: in words, if the number is a difference that decides something.
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


NUMBER_FIELDS = tuple(entry.name for entry in dataclasses.fields(Number))


def of_metric(scored: Scored) -> Number:
    """A score."""
    metric, record = scored.metric, scored.record
    interval = metric.interval
    return Number(
        metric=metric.name,
        value=float(metric),
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
        note="; ".join(filter(None, (metric.note, scored.caution))),
    )


def of_measurement(measurement: Measurement, record: RunRecord) -> Number:
    """The median of a measurement, with its smallest and largest sample."""
    samples = measurement.samples
    several = len(samples) > 1
    phase, batch = measurement.conditions.get("phase"), measurement.conditions.get("batch_size")
    conditions = [str(phase)] * (phase is not None) + [f"batch {batch}"] * (batch is not None)
    return Number(
        metric=", ".join((measurement.name, *conditions)),
        value=measurement.median if samples else float("nan"),
        unit=measurement.unit,
        low=min(samples) if several else None,
        high=max(samples) if several else None,
        covers=REPETITIONS if several else "",
        method=f"{len(samples)} repetitions" if several else "",
        higher_is_better=measurement.higher_is_better,
        device=device_name(record),
        record=record.id,
        created=record.created,
        note=measurement.note,
    )


def of_record(metric: str, value: float, record: RunRecord, unit: str = "", **more: Any) -> Number:
    """A number from a record's tables."""
    return Number(metric=metric, value=float(value), unit=unit, record=record.id, created=record.created, **more)


def device_name(record: RunRecord) -> str:
    """The GPU or CPU that did the work."""
    machine, device = record.provenance.get("machine") or {}, record.provenance.get("device")
    used = device.get("device") if isinstance(device, Mapping) else device
    return str(machine.get("cpu") if str(used or "cpu").startswith("cpu") else machine.get("gpu")) or "unknown"


def _text(found: Any) -> str:
    return "" if found is None else str(found)
