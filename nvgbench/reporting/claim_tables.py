"""The tables of claims, and the sentence about them in the summary."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from nvgbench.reporting.claims import Claim, Judged, Outcome
from nvgbench.reporting.differences import difference_cell, interval_of
from nvgbench.reporting.entries import compact
from nvgbench.reporting.quantities import noise
from nvgbench.reporting.tables import BLANK, Cell, Column, Group, Statement, Table, Tone
from nvgbench.results.numbers import Number

_TONES: dict[Outcome, Tone] = {
    "supported": "better",
    "not supported": "worse",
    "inconclusive": "inconclusive",
    "not comparable": "warning",
}
_HEADINGS = {
    "1": "Generation (Table 1)",
    "2": "Tokenizers (Table 2)",
    "3": "Ablations of NVG-d12 (Table 3)",
    "4": "Runtime (Table 4)",
    "text": "From the text",
}
_CLAIMS_NOTE = (
    "A claim is judged only by runs of the models it names: the same preset, ImageNet at 256 px, as many training images, the "
    "papers' Inception; for time and memory the same preset, measured on the devices of this page. Supported and not supported "
    "mean that the interval of the difference excludes zero; what it covers is given below it."
)
_SCALE_NOTE = (
    "These models are smaller than the published ones, and trained on other data or for a shorter time. Their answers are no "
    "evidence for or against the paper's figures, only for or against the same question at this scale."
)


def claim_table(judged: Sequence[Judged]) -> Table:
    """Every claim of the paper, by its table, with the published and the measured figures and the verdict."""
    groups: dict[str, list[list[Cell]]] = {}
    for one in judged:
        claim = one.claim
        published = [_published(claim, claim.a, claim.value_a), _published(claim, claim.b, claim.value_b)]
        groups.setdefault(claim.table, []).append([Cell(text=claim.text), _verdict(one), *published, *_measured(one)])
    return Table(
        caption="The paper's claims",
        columns=_columns(
            "claim", [Column(label="published", sub="first model"), Column(label="published", sub="second model")]
        ),
        groups=[Group(rows=rows, heading=_HEADINGS.get(table, table)) for table, rows in groups.items()],
        notes=[_CLAIMS_NOTE],
    )


def scale_table(judged: Sequence[Judged]) -> Table | None:
    """The claims' questions, answered by models of the same families."""
    if not judged:
        return None
    rows = []
    for one in judged:
        assert one.a is not None
        question = f"{one.subject_a} beats {one.subject_b} in {one.a.metric}"
        rows.append([Cell(text=question), _verdict(one), *_measured(one)])
    return Table(
        caption="The same questions at this scale",
        columns=_columns("question", []),
        groups=[Group(rows=rows)],
        notes=[_SCALE_NOTE],
    )


def _columns(head: str, published: Sequence[Column]) -> list[Column]:
    return [
        Column(label=head, number=False),
        Column(label="verdict", number=False),
        *published,
        Column(label="measured", sub="first model"),
        Column(label="measured", sub="second model"),
        Column(label="difference", sub="first minus second"),
        Column(label="protocol", number=False),
    ]


def _verdict(one: Judged) -> Cell:
    if one.outcome == "not measured here":
        return Cell(text=one.outcome, sub=one.reason, muted=True)
    return Cell(text=one.outcome, sub=one.reason, tone=_TONES[one.outcome])


def _measured(one: Judged) -> list[Cell]:
    """Both numbers, their difference, and the protocol they follow."""
    if one.a is None or one.b is None:
        return [BLANK, BLANK, BLANK, BLANK]
    shown = [
        Cell(
            text=text,
            sub=f"{interval_of(number)}\n{subject}".strip(),
            number=dataclasses.replace(number, metric=f"{number.metric} of {subject}"),
        )
        for text, number, subject in ((one.shown_a, one.a, one.subject_a), (one.shown_b, one.b, one.subject_b))
    ]
    rules = one.a.protocol or one.a.method or "as recorded"
    counts = f"n = {one.a.n:,}" if one.a.n and one.a.n == one.b.n else ""
    return [*shown, _difference(one), Cell(text=rules, sub=counts)]


def _published(claim: Claim, model: str, value: float) -> Cell:
    number = Number(metric=f"{claim.metric} of {model}", value=value, unit=claim.unit, note="as published")
    return Cell(text=claim.published(value), sub=model, number=number)


def _difference(one: Judged) -> Cell:
    if one.interval is None or one.a is None or one.b is None:
        return BLANK
    number = dataclasses.replace(
        one.a,
        metric=f"{one.a.metric}: difference",
        value=one.a.value - one.b.value,
        low=one.interval.low,
        high=one.interval.high,
        covers=one.interval.source,
        method="",
        note="",
    )
    return difference_cell(number, one.a.value, noise(one.interval.source))


def claim_statement(judged: Sequence[Judged], scaled: Sequence[Judged]) -> Statement:
    """How many claims could be judged, and what the smaller models say."""
    known = [one for one in judged if one.outcome != "not measured here"]
    counts = f": {_counts(known)}" if known else ""
    text = f"{len(known) or 'None'} of the paper's {len(judged)} claims could be judged here{counts}."
    if scaled:
        text += f" {len(scaled)} of the same questions were asked of the models on this page: {_counts(scaled)}."
    return Statement(text=text, word="Claims")


def _counts(judged: Sequence[Judged]) -> str:
    counts = {outcome: sum(one.outcome == outcome for one in judged) for outcome in _TONES}
    return ", ".join(f"{number} {outcome}" for outcome, number in counts.items() if number)


def claim_rows(judged: Sequence[Judged], scaled: Sequence[Judged]) -> list[dict[str, Any]]:
    """The claims for JSON."""
    return [
        {
            "claim": one.claim.text,
            "scale": "published" if number < len(judged) else "this one",
            "verdict": one.outcome,
            "reason": one.reason,
            "metric": one.claim.metric,
            "table": one.claim.table,
            "higher_is_better": one.claim.higher_is_better,
            "published": {one.claim.a: one.claim.value_a, one.claim.b: one.claim.value_b},
            "subjects": [one.subject_a, one.subject_b] if one.a else [],
            "measured": [compact(measured) for measured in (one.a, one.b) if measured is not None],
            "difference": None
            if one.interval is None
            else {"low": one.interval.low, "high": one.interval.high, "covers": one.interval.source},
        }
        for number, one in enumerate([*judged, *scaled])
    ]
