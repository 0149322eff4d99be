"""Signals that ask a training to stop."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nvgbench.data.loader import training_batches
from nvgbench.data.source import open_dataset
from nvgbench.training import interrupt
from nvgbench.training.interrupt import StopSignal

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@pytest.fixture
def hangups_stop() -> Iterator[None]:
    """Also if the tests themselves run under ``nohup``."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", STOPPING)
@pytest.mark.usefixtures("hangups_stop")
def test_signals_are_noted_and_handlers_restored(number: signal.Signals) -> None:
    before = [signal.getsignal(one) for one in STOPPING]
    with StopSignal() as stop:
        assert not stop.received
        signal.raise_signal(number)
        assert stop.received
    assert [signal.getsignal(one) for one in STOPPING] == before


def test_a_later_signal_ends_the_process_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repetition within a second is the same request, passed on by torchrun."""
    now = 100.0
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now)
    with StopSignal():
        signal.raise_signal(signal.SIGTERM)
        now = 100.5
        signal.raise_signal(signal.SIGTERM)
        now = 102.0
        signal.raise_signal(signal.SIGUSR1)  # batch systems may send it repeatedly
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)


def test_hangups_stay_ignored_under_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignal() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.received
    finally:
        signal.signal(signal.SIGHUP, before)


def test_data_workers_ignore_signals_to_the_group(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for index in range(6):
            Image.fromarray(np.full((20, 20, 3), 20 * index, np.uint8)).save(tmp_path / label / f"{index}.png")
    dataset = open_dataset(f"imagefolder:{tmp_path}", image_size=16, split="train", augment="random-crop")
    batches = training_batches(dataset, 2, seed=0, workers=1)
    first = next(batches)
    workers = [int(pid) for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()]
    ours = [pid for pid in workers if "pt_data_worker" in Path(f"/proc/{pid}/comm").read_text()]
    assert ours, "no worker was found"
    for pid in ours:
        for number in STOPPING:
            os.kill(pid, number)
    assert next(batches).images_B3HW.shape == first.images_B3HW.shape
    for _ in range(20):  # past what had been loaded ahead
        next(batches)
