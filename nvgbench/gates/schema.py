"""The verdict of a gate on one metric."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Outcome = Literal["pass", "fail", "inconclusive"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a rule says of one metric of one subject.

    Attributes:
        outcome: ``pass``, ``fail`` or ``inconclusive``.
        blocking: whether a failure fails the gate.
        baseline, value: the two numbers; None where one is missing.
        margin: how far the metric might move, in its unit.
        p_value: of the excess over the margin under an interval rule; None elsewhere.
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
