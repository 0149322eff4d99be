"""Table cells of differences: value, interval and verdict in words, the same wherever two numbers are compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from nvgbench.reporting.quantities import decimals, ends_text, signed
from nvgbench.reporting.tables import Cell, Tone
from nvgbench.results.compare import Difference, Scored
from nvgbench.results.numbers import REPETITIONS, Number, of_metric

_TONES: Mapping[str, Tone] = {"better": "better", "worse": "worse", "different": "warning", "inconclusive": "inconclusive"}


def of_difference(found: Difference, candidate: Scored) -> Number:
    """The difference as a number of the page."""
    return dataclasses.replace(
        of_metric(candidate),
        metric=f"{candidate.metric.name}: difference",
        value=found.value,
        low=None if found.interval is None else found.interval.low,
        high=None if found.interval is None else found.interval.high,
        covers="" if found.interval is None else found.interval.source,
        method="",
        note="",
        verdict=found.verdict,
    )


def interval_of(number: Number) -> str:
    """The interval of a score as text; empty if it has none."""
    if number.low is None or number.high is None or number.covers == REPETITIONS:
        return ""
    return ends_text(number.low, number.high, number.value)


def difference_cell(number: Number, like: float, extra: str = "") -> Cell:
    """``number`` with its sign and as many decimals as the score ``like``; below it interval and verdict, in colour.

    Args:
        number: a difference with its verdict.
        like: one of the two scores.
        extra: a last line below.
    """
    parts = [number.value, *(end for end in (number.low, number.high) if end is not None)]
    places = decimals(like or max(map(abs, parts)))
    value, *ends = (signed(part, f"{abs(part):.{places}f}") for part in parts)
    interval = f"[{', '.join(ends)}]" if len(ends) == 2 else ""
    below = "\n".join(part for part in (interval, number.verdict, extra) if part)
    return Cell(text=value, sub=below, number=number, tone=_TONES.get(number.verdict, "plain"))
