"""From rows and clues to causes: what the images show, what improves the score, and what explains the expected one."""

from __future__ import annotations

import math
from collections.abc import Sequence

from nvgbench.evaluation.doctor.clues import Clue
from nvgbench.evaluation.doctor.diagnosis import Cause, Row

OTHER_REFERENCE = "other reference"
_LEAST = 0.1
"""Causes below this weight are not listed."""
_LEAST_GAIN = 0.02
_ROUNDING = 1e-6
_EXACT = 1e-4
"""Relative difference below which a variant gives the expected score itself: the same images were scored."""
_SURE = 2.0
"""Standard errors beyond which a difference needs an explanation."""
_CERTAIN = 3.0
"""Standard errors of a change that count as more than chance."""


def rank(
    rows: Sequence[Row],
    clues: Sequence[Clue],
    *,
    score: str,
    value: float,
    stderr: float | None,
    expected: float | None,
    higher_is_better: bool,
) -> tuple[Cause, ...]:
    """The causes that something speaks for, the most likely first.

    Args:
        rows: the score under each variant; rows of other scores are not weighed.
        clues: what the images show.
        score: the name of the score that is diagnosed.
        value, stderr: that score without any change, and its standard error.
        expected: what it should be, if known.
        higher_is_better: its direction.
    """
    weighed = [row for row in rows if row.score == score]
    names = dict.fromkeys([clue.cause for clue in clues] + [row.cause for row in weighed] + [OTHER_REFERENCE])
    causes = []
    for name in names:
        own = [row for row in weighed if row.cause == name]
        said = sorted((clue for clue in clues if clue.cause == name), key=lambda clue: -clue.strength)
        gain, gain_reasons = _gain(own, value, higher_is_better)
        match, match_reasons = _match(own, value, stderr, expected)
        if name == OTHER_REFERENCE and expected is not None:
            rest, reason = _unexplained(weighed, value, stderr, expected)
            if rest > match:
                match, match_reasons = rest, [reason]
        clue = said[0].strength if said else 0.0
        reasons = (*(one.text for one in said), *gain_reasons, *match_reasons)
        causes.append(Cause(name=name, clue=clue, gain=gain, match=match, reasons=reasons))
    return tuple(sorted((cause for cause in causes if cause.weight >= _LEAST), key=lambda cause: -cause.weight))


def explained(row_value: float, value: float, expected: float) -> float:
    """Which share of the difference between a score and the expected one is gone under a variant, 0 to 1."""
    if same(value, expected):
        return 0.0
    return max(0.0, 1 - abs(row_value - expected) / abs(value - expected))


def same(value: float, expected: float) -> bool:
    """Whether a score is the expected one up to rounding."""
    return math.isclose(value, expected, rel_tol=_ROUNDING)


def _gain(rows: Sequence[Row], value: float, higher_is_better: bool) -> tuple[float, list[str]]:
    best, reason = 0.0, list[str]()
    for row in rows:
        better = row.change if higher_is_better else -row.change
        sure = row.error is not None and better > _CERTAIN * row.error
        share = better / max(abs(value), math.ulp(1.0))
        if row.speaks and sure and share > max(best, _LEAST_GAIN):
            best = min(share, 1.0)
            verb = "raises" if higher_is_better else "lowers"
            reason = [f"{row.variant} ({row.of}) {verb} {row.score} by {best:.0%}, to {row.value:.5g}"]
    return best, reason


def _match(rows: Sequence[Row], value: float, stderr: float | None, expected: float | None) -> tuple[float, list[str]]:
    if expected is None or not rows:
        return 0.0, []
    nearest = max(rows, key=lambda row: explained(row.value, value, expected))
    share = explained(nearest.value, value, expected)
    weight = share
    if not math.isclose(nearest.value, expected, rel_tol=_EXACT):
        weight *= _beyond_chance(value, stderr, expected)
    if weight < _LEAST:
        return 0.0, []
    return weight, [f"{nearest.variant} ({nearest.of}) gives {nearest.value:.5g}: {share:.0%} of the difference is explained"]


def _unexplained(rows: Sequence[Row], value: float, stderr: float | None, expected: float) -> tuple[float, str]:
    """If no variant leads to the expected score, it is probably of another reference, or of another model."""
    best = max((explained(row.value, value, expected) for row in rows), default=0.0)
    rest = 0.0 if same(value, expected) else (1 - best) * _beyond_chance(value, stderr, expected)
    return rest, f"no variant explains more than {best:.0%} of the difference: another reference, or other samples"


def _beyond_chance(value: float, stderr: float | None, expected: float) -> float:
    """0 to 1: a difference within the error of the score needs no explanation, so explanations of it count less."""
    return 1.0 if not stderr else min(1.0, abs(value - expected) / (_SURE * stderr))
