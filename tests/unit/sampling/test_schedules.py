"""Schedules over the stages."""

from __future__ import annotations

import itertools

import pytest

from nvgbench.errors import InputError
from nvgbench.sampling.schedules import guidance_schedule, top_p_schedule


def test_guidance_is_linear() -> None:
    assert guidance_schedule(1.0, 3.5, 9) == [1.0, 1.3125, 1.625, 1.9375, 2.25, 2.5625, 2.875, 3.1875, 3.5]
    assert guidance_schedule(2.0, 3.0, 1) == [2.0]


def test_top_p_falls_slowly_and_then_fast() -> None:
    values = top_p_schedule(1.0, 0.5, 9)
    steps = [a - b for a, b in itertools.pairwise(values)]
    assert values[0] == 1.0
    assert values[-1] == pytest.approx(0.5, abs=1e-12)
    assert all(later > earlier > 0 for earlier, later in itertools.pairwise(steps))


def test_no_stages_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1"):
        guidance_schedule(1.0, 2.0, 0)
