"""Schedules of the learning rate (warm-up, then one of several shapes) and of weight decay."""

from __future__ import annotations

import math

from nvgbench.config.schema import PhaseConfig


def learning_rate(phase: PhaseConfig, step: int, total_steps: int) -> float:
    """Learning rate of step ``step`` (0 … total_steps - 1).

    The rate increases from ``warmup_start`` of the peak to the peak over ``warmup_steps``, and then follows ``schedule``:

    * ``wsd``: constant until ``decay_start`` of the whole training, then linear to ``final_fraction`` (the paper's recipe).
    * ``linear``: constant for ``decay_start`` of the steps after the warm-up, then linear to ``final_fraction`` (VAR's recipe).
    * ``bent``: two line segments that meet at ``decay_start`` of the steps after the warm-up, half-way between the peak and
      the straight line to ``final_fraction`` (VAR's ``lin0.3``).
    * ``exponential``: constant as in ``linear``, then geometric decay to ``final_fraction``, which must be above 0 (VAR's).
    * ``cosine``: half a cosine from the end of the warm-up to ``final_fraction``.
    * ``constant``: the peak to the end.

    The last step has exactly the final rate. A warm-up as long as the whole training is shortened to a tenth of it.
    """
    assert 0 <= step < total_steps, (step, total_steps)
    warmup = warmup_steps(phase, total_steps)
    if step < warmup:
        return phase.learning_rate * (phase.warmup_start + (1 - phase.warmup_start) * step / warmup)
    return phase.learning_rate * _shape(phase, step, warmup, last=total_steps - 1)


def weight_decay(phase: PhaseConfig, step: int, total_steps: int) -> float:
    """Weight decay of step ``step``: constant, or half a cosine from ``weight_decay`` to ``final_weight_decay`` (VAR's)."""
    assert 0 <= step < total_steps, (step, total_steps)
    if phase.final_weight_decay is None:
        return phase.weight_decay
    done = step / max(total_steps - 1, 1)
    return phase.final_weight_decay + (phase.weight_decay - phase.final_weight_decay) * (0.5 + 0.5 * math.cos(math.pi * done))


def warmup_steps(phase: PhaseConfig, total_steps: int) -> int:
    """The configured warm-up, or a tenth of the training if it does not fit (trials with few steps)."""
    return phase.warmup_steps if phase.warmup_steps < total_steps else total_steps // 10


def _shape(phase: PhaseConfig, step: int, warmup: int, last: int) -> float:
    """Fraction of the peak after the warm-up."""
    if phase.schedule == "constant":
        return 1.0
    done = 1.0 if step == last == warmup > 0 else (step - warmup) / max(last - warmup, 1)
    if phase.schedule == "cosine":
        return phase.final_fraction + (1 - phase.final_fraction) * (0.5 + 0.5 * math.cos(math.pi * done))
    hold, final = phase.decay_start, phase.final_fraction
    if phase.schedule == "wsd":
        hold = max(phase.decay_start * last - warmup, 0.0) / max(last - warmup, 1)
    bend = (1 + final + (1 - final) * (1 - hold)) / 2 if phase.schedule == "bent" else 1.0
    if done <= hold:
        return 1.0 - (1 - bend) * done / hold if hold > 0 else 1.0
    fallen = (done - hold) / (1 - hold)
    if phase.schedule == "exponential":
        return final**fallen
    return final + (bend - final) * (1 - fallen)
