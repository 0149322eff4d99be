"""Tables of the papers' numbers, apart from measured ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from nvgbench.reporting.published import SENTENCE, Published, match_published, published_results
from nvgbench.reporting.tables import BLANK, Cell, Column, Group, Table
from nvgbench.results.models import models
from nvgbench.results.numbers import Number
from nvgbench.results.schema import RunRecord

_GENERATION = {
    "fid": "FID",
    "is_": "IS",
    "precision": "precision",
    "recall": "recall",
    "params": "parameters",
    "train": "training",
    "steps": "steps",
}
_TOKENIZERS = {"rfid": "rFID", "lpips": "LPIPS", "tokens": "tokens", "codebook": "codebook", "usage": "use", "note": "remark"}
_RUNTIME = {"time_s": "seconds per image", "memory_mib": "memory, MiB", "params": "parameters", "note": "remark"}
_TEXTUAL = {"note", "train"}


def published_tables() -> list[Table]:
    """The papers' tables: generation, tokenizers, runtime."""
    rows = published_results()
    return [
        _published(rows, "1", "Generation, as published", _GENERATION),
        _published(rows, "2", "Tokenizers, as published", _TOKENIZERS),
        _published(rows, "4", "Runtime at batch 1, as published", _RUNTIME),
    ]


def matched_table(records: Sequence[RunRecord], measured: Mapping[str, str]) -> Table | None:
    """The papers' numbers beside measured ones, for presets named after a published model; None if there are none.

    Args:
        records: of the page.
        measured: subject -> its primary score as text.
    """
    published = published_results()
    rows = []
    known = models(records)
    for subject, preset in dict.fromkeys((record.subject, record.preset) for record in records if record.preset):
        if not known[subject].is_preset_with({}, trained=False):
            continue  # another architecture than the published one
        found = match_published(preset, published)
        if found is not None:
            cells = [Cell(text=subject, sub=preset), Cell(text=measured.get(subject, "not scored"))]
            rows.append([*cells, Cell(text=found.model), *_texts(found, "fid", "is_", "precision", "recall", "params")])
    heads = ("model", "measured here", "published", "FID", "IS", "precision", "recall", "parameters")
    table = Table(
        caption="Models named after a published model",
        columns=[Column(label=head, number=index > 2) for index, head in enumerate(heads)],
        groups=[Group(rows=rows)],
        notes=[SENTENCE],
    )
    return table if rows else None


def _published(rows: Iterable[Published], table: str, caption: str, fields: Mapping[str, str]) -> Table:
    """One of the papers' tables, grouped by family."""
    groups: dict[str, list[list[Cell]]] = {}
    for row in rows:
        if row.table == table:
            groups.setdefault(row.family, []).append([Cell(text=row.model), *_texts(row, *fields)])
    columns = [Column(label="model", number=False), *(Column(label=h, number=f not in _TEXTUAL) for f, h in fields.items())]
    return Table(caption=caption, columns=columns, groups=[Group(rows=r, heading=family) for family, r in groups.items()])


def _texts(row: Published, *fields: str) -> list[Cell]:
    return [_text(getattr(row, name), name) for name in fields]


def _text(value: str, name: str) -> Cell:
    try:
        return Cell(text=value, number=Number(metric=name.strip("_"), value=float(value), note="as published"))
    except ValueError:
        return Cell(text=value) if value else BLANK
