"""``python -m benchmarks.gpu``: a step that does not end is stopped, and the table is written whatever happens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.gpu.__main__ import main
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.steps import steps
from benchmarks.gpu.table import failed_checks, write_tables


def test_unknown_steps_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "ceilings,clusters", "--out", str(tmp_path / "out")]) == 2
    assert "unknown step 'clusters'; use ceilings, clustering" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_step_is_stopped_when_the_time_is_used_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--device", "cpu", "--only", "tests,ceilings", "--budget", "1.5", "--out", str(tmp_path)]) == 1
    shown = capsys.readouterr().out
    assert "FAILED tests: stopped after" in shown
    assert "FAILED ceilings: not started, the time is used up" in shown
    assert (tmp_path / "table.md").exists()


def test_steps_of_a_cpu_are_those_of_a_gpu_without_most_golden_numbers() -> None:
    here, there = steps("cpu"), steps("cuda")
    assert set(here) < set(there)
    assert all(name.startswith("verify-") for name in set(there) - set(here))
    # Seconds that a session of six minutes may spend on what it is for.
    assert sum(there[name].limit for name in ("ceilings", "clustering", "generation", "training")) <= 350


def test_the_table_flags_missed_goals_and_failed_checks(tmp_path: Path) -> None:
    bench = Bench("clustering", torch.device("cpu"), tmp_path, tiny=False)
    bench.add("kernel", "rate", "images/s", (90.0, 100.0, 110.0), goal=1000.0, batch=1)
    bench.add("kernel", "latency", "s", (0.01,), goal=0.02, batch=1)
    bench.add("kernel", "rate", "images/s", (), note="out of memory", batch=64)
    for name in ("random", "smooth", "flat"):
        bench.check("labels", name, name != "flat", "2 of 3 images differ" if name == "flat" else "")
    lines = write_tables(tmp_path).splitlines()
    missed, reached, absent, failed, passed = lines[2:]
    assert "MISSED" in missed
    assert "95 … 105" in missed
    assert " ok " in reached
    assert "not measured" in absent
    assert "out of memory" in absent
    assert "FAIL" in failed
    assert "2 of 3 images differ" in failed
    assert passed.split() == ["clustering", "labels", "checks", "2", "pass"]
    assert len(failed_checks(tmp_path)) == 1
    assert len((tmp_path / "table.md").read_text().splitlines()) == 2 + 2 + 5
