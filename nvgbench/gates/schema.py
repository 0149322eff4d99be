"""The verdict of a gate on one metric, and of the whole gate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["pass", "fail", "inconclusive"]

EXIT_CODES: dict[Outcome, int] = {"pass": 0, "fail": 1, "inconclusive": 3}
"""What ``nvgbench gate`` ends with; 2 is bad input."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a rule says of one metric of one subject.

    Attributes:
        metric: its name; of a score by another protocol than nvgbench's with the protocol, ``FID (adm)``.
        outcome: ``pass``, ``fail`` or ``inconclusive``.
        blocking: whether this verdict counts for the whole gate; otherwise it is only reported.
        baseline, value: the two numbers; None where one is missing.
        margin: how far the metric might move, in its unit.
        p_value: of a change that large, were the true one within the margin; adjusted for the number of metrics (Benjamini and
            Hochberg); None where the rule asks for no noise, or none is known.
        reason: one sentence.
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
    """The gate's own verdict: the worst among the blocking ones."""
    found = {verdict.outcome for verdict in verdicts if verdict.blocking}
    return "fail" if "fail" in found else "inconclusive" if "inconclusive" in found else "pass"
