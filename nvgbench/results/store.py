"""Records on disk: JSON lines, strict in both directions. No torch."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nvgbench.errors import InputError, did_you_mean
from nvgbench.files import append_line
from nvgbench.results.schema import SCHEMA_VERSION, RunRecord

RECORDS_FILE = "records.jsonl"
NOT_FINITE = "not finite"

_ADAPTER: TypeAdapter[RunRecord] = TypeAdapter(RunRecord)
_KEYS = tuple(entry.name for entry in dataclasses.fields(RunRecord))


@dataclass(frozen=True)
class LocatedRecord:
    """A record and where it was read: artifact paths are relative to the folder of ``file``."""

    record: RunRecord
    file: Path
    line: int

    def artifact_path(self, relative: str) -> Path:
        return self.file.parent / relative


def encode_record(record: RunRecord) -> str:
    """The record as one line of standard JSON (no ``NaN`` or ``Infinity``).

    A metric that is not finite becomes ``null`` and a measurement loses such samples; the note of either reports it. Anywhere
    else a number that is not finite becomes ``null``.
    """
    metrics = []
    for metric in record.metrics:
        if metric.value is not None and not math.isfinite(metric.value):
            note = _join_notes(metric.note, f"{NOT_FINITE}: {metric.value}")
            metric = dataclasses.replace(metric, value=None, interval=None, stderr=None, note=note)
        elif metric.interval is not None and not (math.isfinite(metric.interval.low) and math.isfinite(metric.interval.high)):
            metric = dataclasses.replace(metric, interval=None, note=_join_notes(metric.note, f"interval {NOT_FINITE}"))
        metrics.append(metric)
    measurements = []
    for measurement in record.measurements:
        kept = tuple(sample for sample in measurement.samples if math.isfinite(sample))
        lost = len(measurement.samples) - len(kept)
        if lost:
            note = _join_notes(measurement.note, f"{lost} of {len(measurement.samples)} samples {NOT_FINITE}")
            measurement = dataclasses.replace(measurement, samples=kept, note=note)
        measurements.append(measurement)
    clean = dataclasses.replace(record, metrics=tuple(metrics), measurements=tuple(measurements))
    return json.dumps(plain(dataclasses.asdict(clean)), ensure_ascii=False, allow_nan=False)


def decode_record(line: str, origin: str) -> RunRecord:
    """The inverse of `encode_record`; ``origin`` (file and line) starts the message of an error.

    Raises:
        InputError: no JSON, not a record, an impossible score or interval, or written by a newer nvgbench.
    """

    def refuse(constant: str) -> float:
        raise InputError(f"{origin}: {constant} found, expected finite numbers, or null with a note that says why")

    try:
        tree = json.loads(line, parse_constant=refuse)
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{origin}: broken line ({error}); a crash probably cut it short: delete that line, the others are complete"
        ) from None
    if not isinstance(tree, dict):
        raise InputError(f"{origin}: expected a JSON object, got {type(tree).__name__}")
    version = tree.get("schema_version")
    if not isinstance(version, int) or isinstance(version, bool):
        raise InputError(f"{origin}: schema_version is {version!r}, expected a whole number; is this an nvgbench record?")
    if version < 1:
        raise InputError(f"{origin}: schema_version is {version}, expected 1 to {SCHEMA_VERSION}; is this an nvgbench record?")
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{origin}: schema_version {version} is newer than {SCHEMA_VERSION}, the newest this version reads; update nvgbench"
        )
    for key in tree:
        if key not in _KEYS:
            raise InputError(f"{origin}: unknown key {key!r}{did_you_mean(key, _KEYS)}")
    try:
        record = _ADAPTER.validate_python(tree)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise InputError(f"{origin}: '{where}' = {problem.get('input')!r}: {problem['msg']}") from None
    _check_numbers(record, origin)
    return record


def _check_numbers(record: RunRecord, origin: str) -> None:
    """Refuse what no command writes: numbers too large for a float, intervals whose ends are swapped.

    A verdict from such a number would be silently wrong, and a NaN among p-values would spoil the others.
    """
    for metric in record.metrics:
        known = {"value": metric.value, "stderr": metric.stderr}
        if metric.interval is not None:
            low, high, level = metric.interval.low, metric.interval.high, metric.interval.level
            known |= {"interval.low": low, "interval.high": high}
            if not 0 < level < 1 or low > high:
                raise InputError(f"{origin}: {metric.name}: interval {low} to {high}, level {level}; expected low <= high")
        for what, value in known.items():
            if value is not None and not math.isfinite(value):
                raise InputError(f"{origin}: {metric.name}: {what} = {value}; expected a finite number, or null with a note")
    for measurement in record.measurements:
        if not all(map(math.isfinite, measurement.samples)):
            raise InputError(f"{origin}: {measurement.name}: a sample is not finite; leave such samples out")


class ResultStore:
    """The records of one run or of one collection: an append-only file of JSON lines."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """``path``: the ``.jsonl`` file, or the folder of its ``records.jsonl``. Neither has to exist yet."""
        path = Path(path)
        self.path = path if path.suffix == ".jsonl" else path / RECORDS_FILE

    def append(self, record: RunRecord) -> None:
        """Append one record and flush it to disk.

        Raises:
            OSError: the file cannot be written to.
        """
        append_line(self.path, encode_record(record))

    def records(self) -> list[RunRecord]:
        """All records, oldest first; none if the file does not exist."""
        return read_records(self.path) if self.path.exists() else []


def read_records(path: str | os.PathLike[str]) -> list[RunRecord]:
    """The records of a ``.jsonl`` file, or of every ``records.jsonl`` in and below a folder, in the files' order.

    Raises:
        InputError: nothing at ``path``, or a broken line (named by file and line number).
    """
    return [located.record for located in located_records(path)]


def located_records(path: str | os.PathLike[str]) -> list[LocatedRecord]:
    """Like `read_records`, with the place of each record, to which the paths of its artifacts are relative."""
    path = Path(path)
    if path.is_dir():
        return [located for file in sorted(path.rglob(RECORDS_FILE)) for located in _read_file(file)]
    if not path.exists():
        raise InputError(f"no records at {path}: expected a .jsonl file written by nvgbench or a folder of runs")
    return list(_read_file(path))


def records_of(
    runs: Iterable[str], files: Iterable[str | os.PathLike[str]], root: str | os.PathLike[str]
) -> list[LocatedRecord]:
    """The records of some runs (folders, or names below ``root``) and files; of everything below ``root`` if none is named.

    Raises:
        InputError: a run without records, a missing or broken file; the message names the runs that have records.
    """
    root = Path(root)
    paths = [Path(file) for file in files]
    for run in runs:
        found = next((path for path in (root / run / RECORDS_FILE, Path(run) / RECORDS_FILE) if path.is_file()), None)
        if found is None:
            known = sorted(str(file.parent.relative_to(root)) for file in root.rglob(RECORDS_FILE) if file.parent != root)
            way_out = f"runs with records: {', '.join(known)}" if known else "evaluate or profile a run first"
            raise InputError(f"no records of {run!r} in {root}{did_you_mean(run, known)}; {way_out}")
        paths.append(found)
    everything = [located for path in paths or [root] for located in located_records(path)]
    # A run named together with the folder that contains it is read once.
    return list({(located.file.resolve(), located.line): located for located in everything}.values())


def _read_file(file: Path) -> Iterator[LocatedRecord]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{file} is not UTF-8 text ({error.reason} at byte {error.start}); is it a records file?") from None
    # Only "\n" ends a record; str.splitlines would also split at line separators that JSON allows inside strings.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield LocatedRecord(decode_record(line, f"{file}:{number}"), file, number)


def plain(value: Any) -> Any:
    """``value`` as JSON allows it: mappings, lists, text and finite numbers; a number that is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return plain(value.item())  # scalars of numpy and torch
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return str(value)


def _join_notes(*notes: str) -> str:
    return "; ".join(note for note in notes if note)
