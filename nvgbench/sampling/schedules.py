"""Schedules of sampling settings over the stages. No torch."""

from __future__ import annotations

from nvgbench.errors import InputError

# 8^0 … 8^1 over the stages, as in the reference implementation with its nine stages.
_LOG_BASE = 8.0


def guidance_schedule(start: float, end: float, stages: int) -> list[float]:
    """Guidance scale of each stage, rising linearly from ``start`` to ``end``.

    Raises:
        InputError: fewer than one stage.
    """
    return [start + (end - start) * fraction for fraction in _fractions(stages)]


def top_p_schedule(start: float, end: float, stages: int) -> list[float]:
    """Top-p of each stage, changing "in a logarithmic rate": slowly at first, fast at the end.

    p_i = start + (end - start)·(8^(i/I) - 1)/7 for i = 0 … I = stages - 1; the shape does not depend on the number of stages.

    Raises:
        InputError: fewer than one stage.
    """
    return [start + (end - start) * (_LOG_BASE**fraction - 1) / (_LOG_BASE - 1) for fraction in _fractions(stages)]


def _fractions(stages: int) -> list[float]:
    if stages < 1:
        raise InputError(f"a schedule over {stages} stages: give at least 1")
    return [stage / max(stages - 1, 1) for stage in range(stages)]
