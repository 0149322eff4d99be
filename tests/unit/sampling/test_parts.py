"""Clocks of a sampler's parts."""

from __future__ import annotations

import itertools

import pytest

from nvgbench.sampling import parts
from nvgbench.sampling.parts import PartClock, part


@pytest.fixture(autouse=True)
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that moves one second whenever it is read."""
    seconds = itertools.count()
    monkeypatch.setattr(parts.time, "perf_counter", lambda: float(next(seconds)))


def test_a_part_within_a_part_counts_once() -> None:
    waits: list[int] = []
    with PartClock(lambda: waits.append(1)) as clock:
        with part("content"), part("quantizer"):
            pass
        with part("decoder"):
            pass
    # Readings: content opens 0, quantizer 1 to 2, content closes 3, decoder 4 to 5.
    assert clock.seconds == {"content": 2.0, "quantizer": 1.0, "decoder": 1.0}
    assert len(waits) == 6, "the device is idle at every border"


def test_parts_cost_nothing_without_a_clock() -> None:
    with part("content"):
        pass
    with PartClock(lambda: None) as clock, pytest.raises(KeyError), part("decoder"):
        raise KeyError
    with part("content"):
        pass
    assert clock.seconds == {"decoder": 1.0}
