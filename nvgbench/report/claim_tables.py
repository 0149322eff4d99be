"""The tables of claims, and the sentence about them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from nvgbench.report.claims import Judged, Outcome
from nvgbench.report.differences import difference_cell, interval_of
from nvgbench.report.entries import compact
from nvgbench.report.quantities import noise
from nvgbench.report.tables import BLANK, Cell, Column, Group, Statement, Table, Tone
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
_SCALE_NOTE = (
    "These models are smaller, and trained on other data or for a shorter time, than the published ones: an answer here is no "
    "evidence for or against the paper's figures, only for or against the same question at this scale."
)


def claim_table(judged: Sequence[Judged]) -> Table:
    """Every claim of the paper, by its table, with the published and the measured figures and the verdict."""
    groups: dict[str, list[list[Cell]]] = {}
    for one in judged:
        claim = one.claim
        published = [
            Cell(text=claim.published(value), sub=model, number=_published(one, model, value))
            for model, value in ((claim.a, claim.value_a), (claim.b, claim.value_b))
        ]
        groups.setdefault(claim.table, []).append([Cell(text=claim.text), _verdict(one), *published, *_measured(one)])
    return Table(
        caption="The paper's claims",
        columns=_columns(
            "claim", [Column(label="published", sub="first model"), Column(label="published", sub="second model")]
        ),
        groups=[Group(rows=rows, heading=_HEADINGS.get(table, table)) for table, rows in groups.items()],
        notes=[
            "Only runs of the models that a claim names judge it: same preset, ImageNet at 256 px, as many training images, "
            "the papers' Inception; for time and memory the preset alone, on the device of this page. Supported and not "
            "supported mean that the interval of the difference leaves out zero; what it covers stands below it."
        ],
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
    """Both numbers, their difference, and the rules they follow."""
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


def _published(one: Judged, model: str, value: float) -> Number:
    unit = {"latency": "s", "memory": "MiB"}.get(one.claim.metric, "")
    return Number(metric=f"{one.claim.metric} of {model}", value=value, unit=unit, note="as published")


def _difference(one: Judged) -> Cell:
    if one.low is None or one.high is None or one.a is None or one.b is None:
        return BLANK
    value = one.a.value - one.b.value
    number = dataclasses.replace(
        one.a, metric=f"{one.a.metric}: difference", value=value, low=one.low, high=one.high, covers=one.covers,
        method="", note="",
    )  # fmt: skip
    return difference_cell(number, one.a.value, noise(one.covers))


def claim_statement(judged: Sequence[Judged], scaled: Sequence[Judged]) -> Statement:
    """How many claims could be judged, and what the small models say."""
    counts = {outcome: sum(one.outcome == outcome for one in judged) for outcome in (*_TONES, "not measured here")}
    known = len(judged) - counts["not measured here"]
    told = ", ".join(f"{number} {outcome}" for outcome, number in counts.items() if number and outcome != "not measured here")
    text = f"Of the paper's {len(judged)} claims {known or 'none'} could be judged here{f': {told}' if told else ''}."
    if scaled:
        answers = {outcome: sum(one.outcome == outcome for one in scaled) for outcome in _TONES}
        told = ", ".join(f"{number} {outcome}" for outcome, number in answers.items() if number)
        text += f" Asked of the models on this page, {len(scaled)} of the same questions: {told}."
    return Statement(text=text, word="Claims")


def claim_rows(judged: Sequence[Judged], scaled: Sequence[Judged]) -> list[dict[str, Any]]:
    """The claims as JSON holds them."""
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
            "difference": None if one.low is None else {"low": one.low, "high": one.high, "covers": one.covers},
        }
        for number, one in enumerate([*judged, *scaled])
    ]
