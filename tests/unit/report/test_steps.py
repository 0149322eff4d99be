from __future__ import annotations

import numpy as np
import pytest

from nvgbench.reporting.steps import find_steps


def test_a_step_is_found_where_it_is() -> None:
    noise = np.random.default_rng(3).normal(0, 0.1, 30)
    (step,) = find_steps(np.r_[np.full(18, 5.0), np.full(12, 6.0)] + noise)
    assert step.place == 18
    assert step.first <= 18 <= step.last
    assert step.low < 1.0 < step.high
    assert step.p == pytest.approx(0.001)


def test_two_steps_of_opposite_signs() -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 36)
    steps = find_steps(np.r_[np.full(12, 5.0), np.full(12, 6.0), np.full(12, 5.0)] + noise)
    assert [step.place for step in steps] == [12, 24]
    assert steps[0].low > 0 > steps[1].high


def test_exact_values() -> None:
    """Without noise: a step of 4 and 4 values has p of about 2 / 70, and equal values have none."""
    (step,) = find_steps([1.0] * 4 + [2.0] * 4)
    assert (step.place, step.first, step.last, step.before, step.after) == (4, 4, 4, 1.0, 2.0)
    assert 0.01 < step.p < 0.05
    assert find_steps([3.0] * 20) == []
    assert find_steps([1.0, 9.0, 1.0]) == []


def test_level_and_coverage() -> None:
    """Noise alone has a step in at most 5 % of the sequences; the interval of a place covers it in at least 95 %.

    Bounds: three binomial standard deviations of 100 sequences.
    """
    rng, runs = np.random.default_rng(2), 100
    assert sum(bool(find_steps(rng.normal(size=16))) for _ in range(runs)) <= 0.05 * runs + 3 * np.sqrt(0.05 * 0.95 * runs)
    covered = found = 0
    for _ in range(runs):
        for step in find_steps(rng.normal(size=24) + np.repeat([0.0, 2.0], 12))[:1]:
            found += 1
            covered += step.first <= 12 <= step.last
    assert found > 0.9 * runs
    assert covered >= 0.95 * found - 3 * np.sqrt(0.95 * 0.05 * found)
