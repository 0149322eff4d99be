"""Where the numbers of the page come from: provenance of every record, published numbers, gates, the data themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from nvgbench.gates.schema import Verdict, overall
from nvgbench.report.numbers import Number
from nvgbench.report.published import SENTENCE, Published, match_published, published_results
from nvgbench.report.quantities import quantity, significant
from nvgbench.report.tables import BLANK, Cell, Column, Group, Statement, Table, Tone
from nvgbench.results.compare import identity
from nvgbench.results.paths import without_machine_paths
from nvgbench.results.schema import RunRecord


def provenance_table(records: Iterable[RunRecord]) -> Table:
    """One row a record: when, by which code, from which configuration, on which machine."""
    rows = []
    for record in records:
        # records of older versions may hold paths in full
        p = without_machine_paths(record.provenance)
        machine, libraries = _mapping(p.get("machine")), _mapping(p.get("libraries"))
        commit = str(p.get("commit") or "")
        state = "" if p.get("dirty") is None else "with uncommitted changes" if p["dirty"] else "clean"
        memory = machine.get("memory")
        rows.append(
            [
                Cell(text=record.subject, sub=f"{record.kind} {record.id}"),
                Cell(text=record.created.replace("T", " ").removesuffix("+00:00")),
                Cell(text=commit[:10] or "no checkout", sub=state, muted=not commit),
                Cell(text=str(p["config_hash"])[:16]) if p.get("config_hash") else BLANK,
                Cell(text=_short(p.get("seeds", p.get("seed")))),
                _extractor(p.get("extractor")),
                Cell(text=_short(machine.get("gpu")), sub=_short(machine.get("cpu"))),
                Cell(
                    text=f"{_short(machine.get('cores'))} cores",
                    sub=quantity(float(memory), "B") if isinstance(memory, int) else "",
                ),
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
        "extractor",
        "GPU and CPU",
        "machine",
        "software",
        "command",
    )
    columns = [Column(label=head, number=False) for head in heads]
    return Table(caption="Provenance of every record on this page", columns=columns, groups=[Group(rows=rows)])


def _mapping(entry: Any) -> Mapping[str, Any]:
    return entry if isinstance(entry, Mapping) else {}


def _extractor(entry: Any) -> Cell:
    name = entry.get("name") if isinstance(entry, Mapping) else None
    mark = identity(entry)
    return Cell(text=str(name), sub=_short(mark)[:16]) if name else Cell(text=_short(mark))


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


def gate_table(verdicts: Sequence[Verdict]) -> Table:
    """The verdicts of a gate, failures first."""
    order = {"fail": 0, "inconclusive": 1, "pass": 2}
    rows = [
        [
            Cell(text=verdict.metric, sub=verdict.subject),
            Cell(text=verdict.outcome, sub="" if verdict.blocking else "advisory"),
            _gate_number(verdict, "baseline", verdict.baseline),
            _gate_number(verdict, "now", verdict.value),
            _gate_number(verdict, "margin", verdict.margin, digits=3),
            Cell(text=verdict.reason),
        ]
        for verdict in sorted(verdicts, key=lambda verdict: order[verdict.outcome])
    ]
    numbers = {"baseline", "now", "margin"}
    columns = [Column(label=h, number=h in numbers) for h in ("metric", "verdict", "baseline", "now", "margin", "reason")]
    return Table(caption="Gate: the newest records against the baseline", columns=columns, groups=[Group(rows=rows)])


def _gate_number(verdict: Verdict, what: str, value: float | None, digits: int = 4) -> Cell:
    if value is None:
        return BLANK
    metric = f"{verdict.metric} of {verdict.subject}, {what}"
    return Cell(text=significant(value, digits), number=Number(metric=metric, value=value, verdict=verdict.outcome))


def gate_statement(verdicts: Sequence[Verdict]) -> Statement:
    """What the gate says, in one sentence."""
    numbers = {outcome: sum(v.outcome == outcome for v in verdicts) for outcome in ("pass", "fail", "inconclusive")}
    verdict = overall(verdicts)
    counts = f"{numbers['pass']} pass, {numbers['fail']} fail, {numbers['inconclusive']} inconclusive"
    words: dict[str, tuple[str, Tone, str]] = {
        "pass": ("passes", "better", "Gate passes"),
        "fail": ("fails", "worse", "Gate fails"),
        "inconclusive": ("is inconclusive", "inconclusive", "Gate open"),
    }
    says, tone, word = words[verdict]
    return Statement(text=f"The gate {says} against its baseline: {counts}.", tone=tone, word=word)
