"""The verdict of a gate on one metric, and of the whole gate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["pass", "fail", "inconclusive"]

EXIT_CODES: dict[Outcome, int] = {"pass": 0, "fail": 1, "inconclusive": 3}
"""Exit codes of ``nvgbench gate``; 2 means bad input."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The verdict of a rule on one metric of one subject.

    Attributes:
        metric: its name, with the protocol if that is not nvgbench's own: ``FID (adm)``.
        outcome: ``pass``, ``fail`` or ``inconclusive``.
        reason: one sentence.
        blocking: whether this verdict counts for the whole gate; otherwise it is only reported.
        baseline, value: the two numbers; None if one is missing.
        margin: how far the metric may move, in its unit.
        p_value: probability of a change this large if the true one is within the margin, adjusted for the number of metrics
            (Benjamini and Hochberg); None if the rule does not consider noise, or none is known.
    """

    subject: str
    metric: str
    outcome: Outcome
    reason: str
    blocking: bool = True
    baseline: float | None = None
    value: float | None = None
    margin: float | None = None
    p_value: float | None = None


def overall(verdicts: Iterable[Verdict]) -> Outcome:
    """The verdict of the whole gate: the worst of the blocking ones."""
    found = {verdict.outcome for verdict in verdicts if verdict.blocking}
    return "fail" if "fail" in found else "inconclusive" if "inconclusive" in found else "pass"
