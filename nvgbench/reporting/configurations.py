"""What differs in the configurations of several runs, and only that."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nvgbench.reporting.costs import newest
from nvgbench.reporting.quantities import duration
from nvgbench.reporting.tables import BLANK, Cell, Column, Group, Table
from nvgbench.results.schema import RunRecord

_SECTIONS = {"changed": "", "settings": "sampling.", "seeds": "seed of "}
"""Provenance entries that describe a model, and what their keys begin with in the table."""


def difference_table(chosen: Sequence[RunRecord], records: Iterable[RunRecord]) -> Table | None:
    """One row per setting that not all of the ``chosen`` evaluations share; None if they share all.

    Args:
        chosen: one evaluation per model.
        records: where their trainings are found.
    """
    trainings = newest(records, "train")
    described = [dict(_described(record, trainings.get(record.subject))) for record in chosen]
    keys = dict.fromkeys(key for one in described for key in one)
    differing = [key for key in keys if len({one.get(key) for one in described}) > 1]
    if not differing:
        return None
    rows = [[Cell(text=key), *(Cell(text=one[key]) if key in one else BLANK for one in described)] for key in differing]
    columns = [Column(label="setting", number=False), *(Column(label=record.subject, number=False) for record in chosen)]
    shared = len(keys) - len(differing)
    note = f"Settings that all of them share ({shared}) are left out; a dash means that a record does not say."
    return Table(caption="What differs in the configurations", columns=columns, groups=[Group(rows=rows)], notes=[note])


def _described(record: RunRecord, training: RunRecord | None) -> Iterator[tuple[str, str]]:
    """Setting and value, as far as the records know them."""
    yield "family", record.family
    if record.preset:
        yield "preset", record.preset
    for section, beginning in _SECTIONS.items():
        yield from _flat(record.provenance.get(section), beginning)
    model = record.provenance.get("model")
    if isinstance(model, Mapping) and "step" in model:
        yield "generator steps", f"{model['step']:,}"
    for row in training.tables.get("training", ()) if training else ():
        if row.get("images"):
            yield f"images seen, {row['phase']}", f"{row['images']:,}"
        if row.get("seconds") and not row.get("taken_from"):
            yield f"training time, {row['phase']}", duration(row["seconds"])


def _flat(tree: Any, beginning: str) -> Iterator[tuple[str, str]]:
    if not isinstance(tree, Mapping):
        return
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{beginning}{key}.")
        else:
            yield f"{beginning}{key}", value if isinstance(value, str) else json.dumps(value)
