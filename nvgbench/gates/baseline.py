"""The baseline of a gate: accepted records by environment, in a file with a checksum against manual edits."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvgbench.errors import InputError
from nvgbench.files import write_text
from nvgbench.gates.environment import Environment, environment_of
from nvgbench.results.compare import latest_metrics, score_key
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import decode_record, encode_record

FORMAT = "nvgbench-baseline"
VERSION = 2
SCORED_KINDS = ("eval", "reconstruction", "ablation")
MEASURED_KINDS = ("profile", "cost")
GATED_KINDS = (*SCORED_KINDS, *MEASURED_KINDS)
_NOT_KEPT = ("command",)
"""Provenance that a gate does not need and that names folders of one machine."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """The records of one environment; an empty environment means every environment (`nvgbench.gates.environment`)."""

    environment: Environment
    records: tuple[RunRecord, ...]


@dataclass(frozen=True)
class Baseline:
    """Groups of records, at most one per environment."""

    groups: tuple[Group, ...]

    @classmethod
    def of(cls, records: Iterable[RunRecord]) -> Baseline:
        """The records that matter to a gate, by their environment."""
        groups: list[tuple[Environment, list[RunRecord]]] = []
        for record in records:
            if record.kind not in GATED_KINDS or not (record.metrics or record.measurements):
                continue
            environment = environment_of(record)
            known = next((found for key, found in groups if key == environment), None)
            if known is None:
                groups.append((environment, known := []))
            known.append(record)
        return cls(tuple(Group(environment=key, records=tuple(found)) for key, found in groups))

    @property
    def records(self) -> list[RunRecord]:
        return [record for group in self.groups for record in group.records]

    @property
    def subjects(self) -> list[str]:
        return list(dict.fromkeys(record.subject for record in self.records))

    def of_subjects(self, subjects: Iterable[str]) -> Baseline:
        """The records of these subjects."""
        wanted = frozenset(subjects)
        return Baseline(
            tuple(
                dataclasses.replace(group, records=kept)
                for group in self.groups
                if (kept := tuple(record for record in group.records if record.subject in wanted))
            )
        )

    def updated(self, new: Baseline) -> Baseline:
        """This baseline with the records of ``new`` in place of those of the same environment, kind and subject."""
        kept = {_key(group.environment): list(group.records) for group in self.groups}
        environments = {_key(group.environment): group.environment for group in (*self.groups, *new.groups)}
        for group in new.groups:
            replaced = {(record.kind, record.subject) for record in group.records}
            old = [record for record in kept.get(_key(group.environment), ()) if (record.kind, record.subject) not in replaced]
            kept[_key(group.environment)] = [*old, *group.records]
        return Baseline(tuple(Group(environment=environments[key], records=tuple(found)) for key, found in kept.items()))


def update_baseline(path: str | os.PathLike[str], records: Iterable[RunRecord]) -> Baseline:
    """Write the newest scores and measurements of ``records`` into the baseline at ``path``, and return the whole baseline.

    They replace its records of the same environment, kind and subject. A record is kept, without its tables and pictures, if it
    has the newest value of anything.

    Raises:
        InputError: nothing to write, scores of unfinished or earlier weights, or the file exists and is broken.
        OSError: the file cannot be written.
    """
    path, records = Path(path), list(records)
    _check_finished(records)
    new = Baseline(tuple(dataclasses.replace(group, records=_newest(group)) for group in Baseline.of(records).groups))
    if not new.groups:
        raise InputError("no scores or measurements for a baseline; evaluate or profile a run first")
    found = read_baseline(path).updated(new) if path.exists() else new
    groups = [
        {"environment": group.environment, "records": [json.loads(encode_record(record)) for record in group.records]}
        for group in found.groups
    ]
    content = {"format": FORMAT, "version": VERSION, "environments": groups}
    write_text(path, json.dumps({**content, "checksum": _checksum(content)}, indent=1, ensure_ascii=False) + "\n")
    return found


def _check_finished(records: Iterable[RunRecord]) -> None:
    for subject, scores in latest_metrics(records, SCORED_KINDS).items():
        for scored in scores.values():
            if scored.caution:
                raise InputError(f"a baseline takes scores of finished runs only; {subject} is {scored.caution}")


def _newest(group: Group) -> tuple[RunRecord, ...]:
    """The records of a group that have the newest value of anything, oldest first, without what a gate does not need."""
    kept: list[RunRecord] = []
    known: set[tuple[str, str, str, Any]] = set()
    # Newest first; of two records of the same second the later line is newer.
    for record in sorted(group.records, key=lambda record: record.created)[::-1]:
        values = {("metric", record.subject, score_key(metric.name, metric.protocol), None) for metric in record.metrics} | {
            ("measurement", record.subject, measurement.name, measurement.conditions.get("batch_size"))
            for measurement in record.measurements
        }
        if values - known:
            provenance = {key: value for key, value in record.provenance.items() if key not in _NOT_KEPT}
            kept.insert(0, dataclasses.replace(record, tables={}, artifacts=(), provenance=provenance))
        known |= values
    return tuple(kept)


def read_baseline(path: str | os.PathLike[str]) -> Baseline:
    """Read a baseline file.

    Raises:
        InputError: the file is missing, broken, of another format version, or was edited after it was written.
    """
    path = Path(path)
    remedy = "restore it, or delete it and write a new one (`update=True`)"
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no baseline at {path}; write one first (`update=True`)") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is broken ({error}); {remedy}") from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT:
        raise InputError(f"{path} is not a baseline of nvgbench; {remedy}")
    if tree.get("version") != VERSION:
        raise InputError(f"{path} has baseline version {tree.get('version')!r}, expected {VERSION}; {remedy}")
    checksum = tree.pop("checksum", None)
    if checksum != _checksum(tree):
        raise InputError(f"{path} was changed since it was written (its SHA-256 does not match); {remedy}")
    try:
        return Baseline(
            tuple(
                Group(
                    environment={str(key): str(value) for key, value in group["environment"].items()},
                    records=tuple(_decode(line, path) for line in group["records"]),
                )
                for group in tree["environments"]
            )
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is broken ({type(error).__name__}: {error}); {remedy}") from None


def _decode(line: Mapping[str, Any], path: Path) -> RunRecord:
    return decode_record(json.dumps(line), f"{path}: record of {line.get('subject')!r}")


def _key(environment: Environment) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(environment.items()))


def _checksum(content: Any) -> str:
    """SHA-256 of the content, whatever its indentation and order."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
