"""The gate's verdicts on the page: what moved since the baseline, and whether that matters."""

from __future__ import annotations

from collections.abc import Sequence

from nvgbench.gates.schema import Outcome, Verdict, overall
from nvgbench.reporting.quantities import signed, significant
from nvgbench.reporting.tables import BLANK, Cell, Column, Group, Statement, Table, Tone
from nvgbench.results.numbers import Number

_ORDER: tuple[Outcome, ...] = ("fail", "inconclusive", "pass")
_TONES: dict[Outcome, Tone] = {"fail": "worse", "inconclusive": "inconclusive", "pass": "plain"}
_SENTENCES: dict[Outcome, tuple[str, Tone, str]] = {
    "pass": ("passes", "better", "Gate passes"),
    "fail": ("fails", "worse", "Gate fails"),
    "inconclusive": ("is inconclusive", "inconclusive", "Gate undecided"),
}


def gate_table(verdicts: Sequence[Verdict]) -> Table:
    """One row per verdict: failures first, then what is undecided, then what moved without failing."""
    ordered = sorted(verdicts, key=lambda verdict: (_ORDER.index(verdict.outcome), not _change(verdict)))
    rows = [
        [
            Cell(text=verdict.metric, sub=verdict.subject),
            Cell(text=verdict.outcome, sub="" if verdict.blocking else "advisory", tone=_TONES[verdict.outcome]),
            _number_cell(verdict, "baseline", verdict.baseline),
            _number_cell(verdict, "now", verdict.value),
            _change_cell(verdict),
            _number_cell(verdict, "margin", verdict.margin, digits=3),
            Cell(text=verdict.reason),
        ]
        for verdict in ordered
    ]
    numbers = {"baseline", "now", "change", "margin"}
    heads = ("metric", "verdict", "baseline", "now", "change", "margin", "reason")
    columns = [Column(label=head, number=head in numbers) for head in heads]
    return Table(caption="Gate: the newest records compared with the baseline", columns=columns, groups=[Group(rows=rows)])


def gate_statement(verdicts: Sequence[Verdict]) -> Statement:
    """The gate's verdict and how many numbers moved, in one sentence."""
    counts = ", ".join(f"{sum(v.outcome == outcome for v in verdicts)} {outcome}" for outcome in _ORDER)
    compared = [change for verdict in verdicts if (change := _change(verdict)) is not None]
    moved = f"{sum(change != 0 for change in compared)} of {len(compared)} compared numbers have moved"
    verb, tone, word = _SENTENCES[overall(verdicts)]
    return Statement(text=f"The gate {verb}: {counts}; {moved}.", tone=tone, word=word)


def _change(verdict: Verdict) -> float | None:
    """Value minus baseline; None if either is missing."""
    return None if verdict.baseline is None or verdict.value is None else verdict.value - verdict.baseline


def _number_cell(verdict: Verdict, what: str, value: float | None, digits: int = 4) -> Cell:
    return BLANK if value is None else Cell(text=significant(value, digits), number=_number(verdict, what, value))


def _change_cell(verdict: Verdict) -> Cell:
    change = _change(verdict)
    if change is None:
        return BLANK
    relative = change / abs(verdict.baseline) if verdict.baseline else 0.0
    share = signed(relative, f"{abs(relative):.1%}") if relative else ""
    return Cell(text=signed(change, significant(abs(change), 3)), sub=share, number=_number(verdict, "change", change))


def _number(verdict: Verdict, what: str, value: float) -> Number:
    return Number(metric=f"{verdict.metric} of {verdict.subject}, {what}", value=value, verdict=verdict.outcome)
