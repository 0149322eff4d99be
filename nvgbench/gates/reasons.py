"""Reasons of verdicts, in the same words for scores and measurements."""

from __future__ import annotations

from collections.abc import Iterable

from nvgbench.gates.environment import Environment, differences
from nvgbench.gates.rules import Rule

NOT_IN_BASELINE = "not in the baseline; an update adds it"
NOT_MEASURED = "not measured this time"


def no_baseline_here(known: Iterable[Environment], here: Environment) -> str:
    """Why nothing is decided in this environment: how it differs from the nearest one in the baseline."""
    nearest = min((differences(there, here) for there in known), key=len)
    return f"no baseline for this environment ({'; '.join(nearest)}); an update adds one"


def failure(rule: Rule, higher_is_better: bool | None, good: bool, covers: str = "") -> str:
    """The reason for a failure; a suspiciously good number has its own."""
    beyond = "a change, and none is allowed" if rule.kind == "exact" else "beyond the margin"
    noise = f" and the noise of {covers}" if covers and rule.kind == "interval" else ""
    if good:
        return f"suspiciously good: {beyond}{noise}; look for a fault in the measurement, or update the baseline"
    return f"{'changed' if higher_is_better is None else 'worse'}: {beyond}{noise}"
