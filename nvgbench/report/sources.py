"""Where the numbers of the page come from: provenance of every record, published numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nvgbench.report.published import SENTENCE, Published, match_published, published_results
from nvgbench.report.quantities import NOT_AVAILABLE, quantity
from nvgbench.report.tables import BLANK, Cell, Column, Group, Table
from nvgbench.results.compare import identity
from nvgbench.results.numbers import Number
from nvgbench.results.paths import without_machine_paths
from nvgbench.results.schema import RunRecord


def provenance_table(records: Iterable[RunRecord]) -> Table:
    """One row a record: when, by which code and rules, from which configuration and settings, against what, where."""
    rows = []
    for record in records:
        # records of older versions may hold paths in full
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
                Cell(text=_short(p.get("seeds", p.get("seed")))),
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
    """All of them, as a table cell may break: they decide the score as much as the weights do."""
    if not isinstance(entry, Mapping) or not entry:
        return BLANK
    return Cell(text=", ".join(f"{name} {_value(value)}" for name, value in entry.items()))


def _value(value: Any) -> str:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return " to ".join(str(item) for item in value) if listed else str(value)


def _protocol(entry: Any) -> Cell:
    """Id and version; the library that computes, where it is another."""
    known = _mapping(entry)
    if not known.get("id"):
        return BLANK
    return Cell(text=f"{known['id']}/{known.get('version', '?')}", sub=str(known.get("library") or ""))


def _reference(provenance: Mapping[str, Any]) -> Cell:
    """What samples were held against, and reconstructions where that is something else."""
    entry, own = _mapping(provenance.get("reference")), _mapping(provenance.get("reconstruction_reference"))
    if not entry:
        return BLANK
    parts = [_digest(entry.get("fingerprint")), "with the moments stored in it" if entry.get("stored_moments") else ""]
    if own and identity(own) not in (entry.get("fingerprint"), entry.get("images_fingerprint")):
        parts.append(f"reconstructions: {own.get('name')}, {_digest(own.get('fingerprint'))}")
    return Cell(text=str(entry.get("name") or "unnamed"), sub="; ".join(filter(None, parts)))


def _extractor(entry: Any) -> Cell:
    known = _mapping(entry)
    name, weights = known.get("name"), known.get("weights_sha256")
    if not name:
        return Cell(text=_short(identity(entry)))
    parts = [_digest(known.get("fingerprint")), f"weights {_digest(weights)}" if weights else ""]
    return Cell(text=str(name), sub="; ".join(filter(None, parts)))


def _digest(value: Any) -> str:
    """The beginning of a SHA-256, enough to tell any two apart; all of it is in the record."""
    return f"SHA-256 {str(value)[:16]}…" if value else ""


def _machine(provenance: Mapping[str, Any]) -> Cell:
    """The GPU or CPU that did the work, and what else of the machine moves speed or the last digits of scores."""
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


def published_tables(records: Sequence[RunRecord], measured: Mapping[str, str]) -> tuple[Table | None, list[Table]]:
    """The papers' numbers: beside measured ones where a preset carries a published model's name, and all of them.

    Args:
        measured: subject -> its primary score in words, for the table of matches.

    Returns:
        The table of matches, or None; and the papers' tables (generation, tokenizers, runtime).
    """
    rows = published_results()
    matches = []
    for subject, preset in dict.fromkeys((record.subject, record.preset) for record in records if record.preset):
        found = match_published(preset, rows)
        if found is not None:
            cells = [Cell(text=subject, sub=preset), Cell(text=measured.get(subject, "not scored"))]
            matches.append([*cells, Cell(text=found.model), *_texts(found, "fid", "is_", "precision", "recall", "params")])
    heads = ("model", "measured here", "published", "FID", "IS", "precision", "recall", "parameters")
    beside = Table(
        caption="Models that carry a published model's name",
        columns=[Column(label=head, number=index > 2) for index, head in enumerate(heads)],
        groups=[Group(rows=matches)],
        notes=[SENTENCE],
    )
    return (beside if matches else None), [
        _published(
            rows,
            "1",
            "Generation, as published",
            {
                "fid": "FID",
                "is_": "IS",
                "precision": "precision",
                "recall": "recall",
                "params": "parameters",
                "train": "training",
                "steps": "steps",
            },
        ),
        _published(
            rows,
            "2",
            "Tokenizers, as published",
            {"rfid": "rFID", "lpips": "LPIPS", "tokens": "tokens", "codebook": "codebook", "usage": "use", "note": "remark"},
        ),
        _published(
            rows,
            "4",
            "Runtime at batch 1, as published",
            {"time_s": "seconds an image", "memory_mib": "memory, MiB", "params": "parameters", "note": "remark"},
        ),
    ]


def _published(rows: Iterable[Published], table: str, caption: str, fields: Mapping[str, str]) -> Table:
    """A paper's table, grouped by family."""
    groups: dict[str, list[list[Cell]]] = {}
    for row in rows:
        if row.table == table:
            groups.setdefault(row.family, []).append([Cell(text=row.model), *_texts(row, *fields)])
    textual = {"note", "train"}
    columns = [Column(label="model", number=False), *(Column(label=h, number=f not in textual) for f, h in fields.items())]
    return Table(caption=caption, columns=columns, groups=[Group(rows=r, heading=family) for family, r in groups.items()])


def _texts(row: Published, *fields: str) -> list[Cell]:
    return [_text(getattr(row, name), name) for name in fields]


def _text(value: str, name: str) -> Cell:
    try:
        return Cell(text=value, number=Number(metric=name.strip("_"), value=float(value), note="as published"))
    except ValueError:
        return Cell(text=value) if value else BLANK
