"""The baseline of a gate: records that were once found good, in a file that notices when it is edited by hand."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nvgbench.errors import InputError
from nvgbench.files import write_text
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import decode_record, encode_record

FORMAT = "nvgbench-baseline"
VERSION = 1
GATED_KINDS = ("eval", "reconstruction", "profile", "ablation")


def gated(records: Iterable[RunRecord]) -> list[RunRecord]:
    """The records that a gate looks at."""
    return [record for record in records if record.kind in GATED_KINDS and (record.metrics or record.measurements)]


def write_baseline(path: Path, records: Iterable[RunRecord]) -> int:
    """Write the scores and measurements of ``records`` as a baseline, and return how many records it holds.

    A record is kept, without its tables and pictures, where it holds the newest value of anything.

    Raises:
        InputError: nothing to write.
        OSError: the file cannot be written.
    """
    kept: list[RunRecord] = []
    known: set[tuple[str, str, str, Any]] = set()
    # From the newest on; of two records of the same second the later line is the newer.
    for record in sorted(gated(records), key=lambda record: record.created)[::-1]:
        held = {("metric", record.subject, metric.name, None) for metric in record.metrics} | {
            ("measurement", record.subject, measurement.name, measurement.conditions.get("batch_size"))
            for measurement in record.measurements
        }
        if held - known:
            kept.insert(0, record)
        known |= held
    if not kept:
        raise InputError("no scores or measurements to make a baseline of; run 'nvgbench eval' or 'nvgbench profile' first")
    lines = [json.loads(encode_record(dataclasses.replace(record, tables={}, artifacts=()))) for record in kept]
    content = {"format": FORMAT, "version": VERSION, "records": lines}
    write_text(path, json.dumps({**content, "checksum": _checksum(content)}, indent=1, ensure_ascii=False) + "\n")
    return len(lines)


def read_baseline(path: Path) -> list[RunRecord]:
    """The records of a baseline.

    Raises:
        InputError: the file is missing, broken, of a newer format, or was changed since it was written.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no baseline at {path}; write one with 'nvgbench gate --baseline {path} --update'") from None
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path} is broken ({error}); restore it or write it anew with --update") from None
    if not isinstance(tree, dict) or tree.get("format") != FORMAT or not isinstance(tree.get("records"), list):
        raise InputError(f"{path} is not a baseline written by 'nvgbench gate --update'")
    if tree.get("version") != VERSION:
        raise InputError(f"{path} has baseline version {tree.get('version')!r}; expected {VERSION}; update nvgbench")
    checksum = tree.pop("checksum", None)
    if checksum != _checksum(tree):
        raise InputError(
            f"{path} was changed since it was written (its SHA-256 does not fit); restore it, or write it anew with --update"
        )
    return [decode_record(json.dumps(line), f"{path}: record {number}") for number, line in enumerate(tree["records"], start=1)]


def _checksum(content: Any) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()
