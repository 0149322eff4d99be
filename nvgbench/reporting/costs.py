"""What training and sampling cost: training budgets, and time, memory and energy of sampling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nvgbench.reporting.quantities import THIN_SPACE, count, duration, measurement_text, quantity, range_text
from nvgbench.reporting.tables import BLANK, Cell, Column, Footnotes, Group, Statement, Table, unavailable
from nvgbench.results.compare import identity
from nvgbench.results.numbers import device_name, of_measurement, of_record
from nvgbench.results.schema import RunRecord
from nvgbench.types import Measurement

_SAME = 0.01
"""Budgets that differ by less than this share count as equal."""


def newest(records: Iterable[RunRecord], kind: str) -> dict[str, RunRecord]:
    """The newest record of a kind for each subject."""
    found: dict[str, RunRecord] = {}
    for record in records:
        if record.kind == kind and (record.subject not in found or record.created >= found[record.subject].created):
            found[record.subject] = record
    return found


def budget_table(records: Iterable[RunRecord]) -> Table:
    """What every model was trained on, and for how long."""
    rows = []
    for subject, record in newest(records, "train").items():
        data = record.provenance.get("dataset") or {}
        cells = [Cell(text=subject, sub=record.family), _phase(record, "tokenizer"), _phase(record, "generator")]
        seconds = sum(row.get("seconds") or 0 for row in record.tables.get("training", ()) if not row.get("taken_from"))
        spent = of_record("training time", seconds, record, "s")
        cells.append(Cell(text=duration(seconds), number=spent) if seconds else BLANK)
        images = data.get("images")
        cells.append(Cell(text=str(data.get("name", "unknown")), sub=f"{images:,} images" if isinstance(images, int) else ""))
        cells.append(Cell(text=_seeds(record)))
        rows.append(cells)
    columns = [
        Column(label="model", number=False),
        Column(label="tokenizer", sub="images seen"),
        Column(label="generator", sub="images seen"),
        Column(label="training time", sub="both phases"),
        Column(label="data", number=False),
        Column(label="seed"),
    ]
    return Table(caption="Training budgets", columns=columns, groups=[Group(rows=rows)])


def _phase(record: RunRecord, phase: str) -> Cell:
    row = _phase_row(record, phase)
    if row is None or row.get("images") is None:
        return BLANK
    origin = f"taken from {row['taken_from']}" if row.get("taken_from") else f"{row.get('steps', 0):,} steps"
    if row.get("taken_from") and not row["images"]:  # published weights
        return Cell(text="unknown", sub=origin)
    return Cell(text=count(int(row["images"])), sub=origin, number=of_record(f"images seen, {phase}", row["images"], record))


def _phase_row(record: RunRecord, phase: str) -> Mapping[str, Any] | None:
    return next((row for row in record.tables.get("training", ()) if row.get("phase") == phase), None)


def _seeds(record: RunRecord) -> str:
    seeds = record.provenance.get("seeds")
    return ", ".join(str(seed) for seed in seeds) if isinstance(seeds, Sequence) and not isinstance(seeds, str) else "\u2013"


def budget_statements(records: Iterable[RunRecord], models: Iterable[str]) -> list[Statement]:
    """Whether the scored models had the same budget; if not, what differs."""
    trained = newest(records, "train")
    models = list(models)
    unknown = [model for model in models if model not in trained]
    known = [model for model in models if model in trained]
    statements = []
    unequal = []
    for phase in ("tokenizer", "generator"):
        images = {model: row["images"] for model in known if (row := _phase_row(trained[model], phase)) and row.get("images")}
        if images and max(images.values()) > min(images.values()) * (1 + _SAME):
            listed = ", ".join(f"{model} {count(int(number))}" for model, number in images.items())
            unequal.append(f"the {phase}s saw different numbers of images ({listed})")
    data = {str(identity(trained[model].provenance.get("dataset"))) for model in known}
    if len(data) > 1:
        unequal.append("they were trained on different data")
    if unequal:
        text = f"The budgets are unequal: {'; '.join(unequal)}. That alone may explain a difference in score."
        statements.append(Statement(text=text, tone="warning", word="Unequal budgets"))
    elif len(known) > 1:
        text = "All models saw the same data and, in each phase, the same number of images."
        statements.append(Statement(text=text, word="Equal budgets"))
    if unknown:
        text = f"No training record of {', '.join(unknown)}: their training data and budget are unknown."
        statements.append(Statement(text=text, tone="warning", word="Unknown budget"))
    return statements


def cost_table(records: Iterable[RunRecord]) -> Table:
    """Parameters, FLOPs, speed, memory and energy of every profiled model."""
    profiles = newest(records, "profile")
    notes = Footnotes()
    largest = {s: max((b for b in map(_batch, r.measurements) if b), default=1) for s, r in profiles.items()}
    rows = [_cost_row(subject, record, largest[subject], notes) for subject, record in profiles.items()]
    batches = sorted(set(largest.values()))
    at = f"batch {batches[0]}" if len(batches) == 1 else "largest batch"
    columns = [
        Column(label="model", number=False),
        Column(label="parameters"),
        Column(label="FLOPs per image", sub="counted, batch 1"),
        Column(label="latency", sub="batch 1, median"),
        Column(label="throughput", sub=f"images/s, {at}"),
        Column(label="GPU memory", sub=f"peak, {at}"),
        Column(label="process memory", sub=f"peak, {at}"),
        Column(label="energy per image", sub=at),
        Column(label="device", number=False),
    ]
    return Table(caption="Cost of sampling", columns=columns, groups=[Group(rows=rows)], notes=notes.lines())


def _cost_row(subject: str, record: RunRecord, batch: int, notes: Footnotes) -> list[Cell]:
    model = record.provenance.get("model")
    untrained = isinstance(model, Mapping) and model.get("weights") == "untrained"
    parts = [(str(row.get("part")), int(row.get("count") or 0)) for row in record.tables.get("parameters", ())]
    total = sum(number for _, number in parts)
    listed = "\n".join(f"{part} {count(number)}" for part, number in parts)
    return [
        Cell(text=subject, sub=f"{record.family}, random weights" if untrained else record.family),
        Cell(text=count(total), sub=listed, number=of_record("parameters", total, record)) if parts else BLANK,
        _flops(record, notes),
        _measured(record, "latency", 1, notes),
        _measured(record, "throughput", batch, notes),
        _measured(record, "peak_memory_cuda", batch, notes),
        _measured(record, "peak_memory_process", batch, notes),
        _measured(record, "energy", batch, notes),
        Cell(text=device_name(record)),
    ]


def find_measurement(record: RunRecord, name: str, batch: int | None = None) -> Measurement | None:
    """A record's measurement by name and, if given, batch size."""
    return next((m for m in record.measurements if m.name == name and batch in (None, _batch(m))), None)


def _batch(measurement: Measurement) -> int | None:
    batch = measurement.conditions.get("batch_size")
    return batch if isinstance(batch, int) else None


def _measured(record: RunRecord, name: str, batch: int, notes: Footnotes) -> Cell:
    found = find_measurement(record, name, batch)
    if found is None:
        return BLANK
    if not found.samples:
        reason = found.note.removeprefix("not available: ")
        return unavailable(notes.sign(reason) if reason else "")
    # The column's head has the second half of the unit.
    text, spread = (_bare(text) for text in (measurement_text(found), range_text(found)))
    return Cell(text=text, sub=spread, number=of_measurement(found, record))


def _bare(text: str) -> str:
    return text.removesuffix("/image").removesuffix(f"{THIN_SPACE}images/s")


def _flops(record: RunRecord, notes: Footnotes) -> Cell:
    cell = _measured(record, "flops", 1, notes)
    analytic = find_measurement(record, "flops_analytic")
    if analytic is None or not analytic.samples or cell.muted:
        return cell
    formula = f"formula {_bare(measurement_text(analytic))}"
    return Cell(text=cell.text, sub=formula, number=cell.number)


def cost_statements(records: Iterable[RunRecord], models: Iterable[str]) -> list[Statement]:
    """Which model is fastest at batch 1 and in batches, if all were measured on one device.

    Among the scored ``models`` if at least two of them were profiled, else among everything that was.
    """
    profiles = newest(records, "profile")
    scored = {subject: profiles[subject] for subject in models if subject in profiles}
    profiles = scored if len(scored) > 1 else profiles
    devices = {device_name(record) for record in profiles.values()}
    if len(profiles) < 2:
        return []
    if len(devices) > 1:
        text = f"The costs were measured on different devices ({', '.join(sorted(devices))}) and are not comparable."
        return [Statement(text=text, tone="warning", word="Not comparable")]
    parts = []
    latency = _medians(profiles, "latency", 1)
    if len(latency) > 1:
        order = sorted(latency, key=latency.__getitem__)
        slower = ", ".join(f"{s} {quantity(latency[s], 's')}" for s in order[1:])
        parts.append(f"at batch 1, {order[0]} is fastest: {quantity(latency[order[0]], 's')} per image ({slower})")
    batches = [{_batch(m) for m in record.measurements if m.name == "throughput"} for record in profiles.values()]
    batch = max((batch for batch in set.intersection(*batches) if batch), default=None)
    rates = {} if batch is None else _medians(profiles, "throughput", batch)
    if len(rates) > 1:
        order = sorted(rates, key=rates.__getitem__, reverse=True)
        rest = ", ".join(f"{s} {quantity(rates[s], 'images/s')}" for s in order[1:])
        parts.append(f"at batch {batch}, {order[0]} is fastest: {quantity(rates[order[0]], 'images/s')} ({rest})")
    text = "; ".join(parts)
    return [Statement(text=f"{text[:1].upper()}{text[1:]}.", word="Speed")] if parts else []


def _medians(profiles: Mapping[str, RunRecord], name: str, batch: int) -> dict[str, float]:
    """Medians of one measurement, for the models that have it."""
    found = {subject: find_measurement(record, name, batch) for subject, record in profiles.items()}
    return {subject: one.median for subject, one in found.items() if one is not None and one.samples}
