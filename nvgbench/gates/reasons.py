"""What a verdict says of itself, in words that scores and measurements share."""

from __future__ import annotations

from collections.abc import Iterable

from nvgbench.gates.environment import Environment, differences
from nvgbench.gates.rules import Rule

NOT_IN_BASELINE = "not in the baseline; --update adds it"
NOT_MEASURED = "not measured this time"


def no_baseline_here(known: Iterable[Environment], here: Environment) -> str:
    """Why nothing can be decided in this environment: how it differs from the nearest that the baseline knows."""
    nearest = min((differences(there, here) for there in known), key=len)
    return f"no baseline for this environment ({'; '.join(nearest)}); --update adds one"


def failure(rule: Rule, higher_is_better: bool | None, good: bool, covers: str = "") -> str:
    """The reason of a failure; a suspiciously good number has its own."""
    beyond = "a change, where none is allowed" if rule.kind == "exact" else "beyond the margin"
    noise = f" and the noise of {covers}" if covers and rule.kind == "interval" else ""
    if good:
        return f"suspiciously good: {beyond}{noise}; look for a fault in the measurement, or --update"
    return f"{'changed' if higher_is_better is None else 'worse'}: {beyond}{noise}"
