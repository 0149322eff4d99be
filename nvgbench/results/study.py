"""What a study says about itself in its record, so that a report needs the record alone. No torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from nvgbench.results.schema import RunRecord

Verdict = Literal["better", "worse", "different", "no difference", "inconclusive", "measured"]
"""``measured`` is a description that compares nothing."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One sentence of a study's answer.

    Attributes:
        text: the sentence, with its numbers and their interval.
        verdict: what the interval decides about the variant that the sentence is about.
        subject: that variant (or run).
        metric: what was compared.
        value: the difference, or the number described.
        low, high, level: its interval, if any.
        n: trainings or images behind it.
    """

    text: str
    verdict: Verdict = "measured"
    subject: str = ""
    metric: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    level: float | None = None
    n: int | None = None


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A figure drawn from one of the record's tables; rows without a value are left out.

    Attributes:
        table: name of the table.
        caption: what it shows and how to read it.
        kind: ``lines`` over a number ``x``, or ``dots``: one row per ``series`` with its interval.
        y: column of the values. Intervals are in ``{stem}_low`` and ``{stem}_high``, where the stem is ``y`` without ``_mean``.
        x: column of the numbers on the horizontal axis of ``lines``.
        series: column whose values get a line (or a dot) each.
        only: the series that are drawn; all if empty. There are six distinct styles.
        panel: columns that tell the panels apart; none for a single panel.
        label: of the values' axis.
        log_x: powers of two on the horizontal axis.
        limits: of the values' axis.
        zero: draw a line at zero (``dots``).
    """

    table: str
    caption: str
    kind: Literal["lines", "dots"] = "lines"
    y: str = "value"
    x: str = ""
    series: str = "variant"
    only: tuple[str, ...] = ()
    panel: tuple[str, ...] = ()
    label: str = ""
    log_x: bool = False
    limits: tuple[float, float] | None = None
    zero: bool = False


@dataclass(frozen=True, kw_only=True)
class StudyPage:
    """A study as the report shows it; stored as ``provenance["study"]``.

    Attributes:
        name: of the study.
        question: one line.
        design: what is varied and measured, one line each.
        findings: the answer.
        charts: figures.
        tables: names of the record's tables that are shown.
        limits: what the study does not show.
    """

    name: str
    question: str
    design: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[str, ...] = ()
    limits: str = ""

    def as_tree(self) -> dict[str, Any]:
        """For a record's provenance."""
        return dataclasses.asdict(self)


_PAGE = TypeAdapter(StudyPage)


def study_page(record: RunRecord) -> StudyPage | None:
    """The page of a study's record; None for other records and for pages of another version."""
    tree = record.provenance.get("study")
    if record.kind != "ablation" or not isinstance(tree, Mapping):
        return None
    try:
        return _PAGE.validate_python(dict(tree))
    except ValidationError:
        return None
