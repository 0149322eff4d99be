"""The table of provenance: where the numbers of the page come from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nvgbench.reporting.quantities import NOT_AVAILABLE, quantity
from nvgbench.reporting.tables import BLANK, Cell, Column, Group, Table
from nvgbench.results.compare import identity
from nvgbench.results.paths import without_machine_paths
from nvgbench.results.schema import RunRecord


def provenance_table(records: Iterable[RunRecord]) -> Table:
    """One row per record: time, code, configuration, seeds, settings, protocol, reference, extractor, machine, software."""
    rows = []
    for record in records:
        # What calls nvgbench may write records with full paths.
        p = without_machine_paths(record.provenance)
        libraries = _mapping(p.get("libraries"))
        commit = str(p.get("commit") or "")
        state = "" if p.get("dirty") is None else "with uncommitted changes" if p["dirty"] else "clean"
        rows.append(
            [
                Cell(text=record.subject, sub=f"{record.kind} {record.id}"),
                Cell(text=record.created.replace("T", " ").removesuffix("+00:00")),
                Cell(text=commit[:10] or "no checkout", sub=state, muted=not commit),
                Cell(text=str(p["config_hash"])[:16]) if p.get("config_hash") else BLANK,
                Cell(text=_short(p.get("seeds"))),
                _settings(p.get("settings")),
                _protocol(p.get("protocol")),
                _reference(p),
                _extractor(p.get("extractor")),
                _machine(p),
                Cell(
                    text=f"nvgbench {p.get('nvgbench', '?')}, Python {p.get('python', '?')}",
                    sub=", ".join(f"{name} {version}" for name, version in libraries.items()),
                ),
                Cell(text=str(p["command"])) if p.get("command") else BLANK,
            ]
        )
    heads = (
        "record",
        "time, UTC",
        "commit",
        "configuration",
        "seeds",
        "sampling settings",
        "protocol",
        "reference",
        "extractor",
        "machine",
        "software",
        "command",
    )
    columns = [Column(label=head, number=False) for head in heads]
    return Table(caption="Provenance of every record on this page", columns=columns, groups=[Group(rows=rows)])


def _mapping(entry: Any) -> Mapping[str, Any]:
    return entry if isinstance(entry, Mapping) else {}


def _settings(entry: Any) -> Cell:
    """All sampling settings: they decide the score as much as the weights do."""
    if not isinstance(entry, Mapping) or not entry:
        return BLANK
    return Cell(text=", ".join(f"{name} {_value(value)}" for name, value in entry.items()))


def _value(value: Any) -> str:
    is_list = isinstance(value, Sequence) and not isinstance(value, str)
    return " to ".join(str(item) for item in value) if is_list else str(value)


def _protocol(entry: Any) -> Cell:
    """Id and version, and the library that computes the scores if it is not nvgbench."""
    known = _mapping(entry)
    if not known.get("id"):
        return BLANK
    return Cell(text=f"{known['id']}/{known.get('version', '?')}", sub=str(known.get("library") or ""))


def _reference(provenance: Mapping[str, Any]) -> Cell:
    """The reference of the samples, and that of the reconstructions if it is another."""
    entry, own = _mapping(provenance.get("reference")), _mapping(provenance.get("reconstruction_reference"))
    if not entry:
        return BLANK
    parts = [_digest(entry.get("fingerprint")), "with its stored moments" if entry.get("stored_moments") else ""]
    if own and identity(own) not in (entry.get("fingerprint"), entry.get("images_fingerprint")):
        parts.append(f"reconstructions: {own.get('name')}, {_digest(own.get('fingerprint'))}")
    return Cell(text=str(entry.get("name") or "unnamed"), sub="; ".join(filter(None, parts)))


def _extractor(entry: Any) -> Cell:
    known = _mapping(entry)
    if not known.get("name"):
        return BLANK
    weights = known.get("weights_sha256")
    parts = [_digest(known.get("fingerprint")), f"weights {_digest(weights)}" if weights else ""]
    return Cell(text=str(known["name"]), sub="; ".join(filter(None, parts)))


def _digest(value: Any) -> str:
    """The first digits of a SHA-256, enough to tell any two apart; the record has all of it."""
    return f"SHA-256 {str(value)[:16]}…" if value else ""


def _machine(provenance: Mapping[str, Any]) -> Cell:
    """The GPU or CPU that did the work, and what else affects speed or the last digits of scores."""
    machine, device = _mapping(provenance.get("machine")), _mapping(provenance.get("device"))
    memory, cores, threads = machine.get("memory"), machine.get("cores"), device.get("threads")
    matmul, precision = device.get("matmul_precision"), provenance.get("precision")
    gpu, cpu = (None if machine.get(name) in (None, NOT_AVAILABLE) else str(machine[name]) for name in ("gpu", "cpu"))
    parts = [
        cpu if cpu and gpu else "",
        f"on {device['device']}" if device.get("device") else "",
        f"{cores} cores" if cores else "",
        quantity(float(memory), "B") if isinstance(memory, int) else "",
        f"{threads} threads" if threads else "",
        str(precision or ""),
        f"matmul precision {matmul}" if matmul else "",
    ]
    return Cell(text=gpu or cpu or NOT_AVAILABLE, sub=", ".join(filter(None, parts)))


def _short(value: Any) -> str:
    if value is None:
        return "\u2013"
    if isinstance(value, Mapping):
        value = [f"{name} {item}" for name, item in value.items()]
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = ", ".join(str(item) for item in value)
    text = str(value)
    return text if len(text) <= 48 else f"{text[:47]}…"
