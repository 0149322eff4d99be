"""``python -m benchmarks.gpu [--device cuda|cpu] [--out FOLDER] [--only STEP,STEP] [--budget SECONDS]``."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

_BUDGET = {"cuda": 350.0, "cpu": 1500.0}  # seconds; on a CPU, which others may be using, only what hangs is stopped
_CPU_SLACK = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the steps; exit code 1 if a check failed or a step did not end."""
    options = _options(arguments)
    if options.step:
        return _run_here(options)
    from benchmarks.gpu.steps import steps
    from benchmarks.gpu.table import failed_checks, write_tables

    known = steps(options.device)
    chosen = options.only.split(",") if options.only else [name for name, step in known.items() if not step.optional]
    if unknown := [name for name in chosen if name not in known]:
        print(f"unknown step {unknown[0]!r}; use {', '.join(known)}", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "records.jsonl").unlink(missing_ok=True)
    device = options.device.partition(":")[0]
    slack = _CPU_SLACK if device == "cpu" else 1
    end = time.monotonic() + (options.budget or _BUDGET[device])
    broken = []
    for name in chosen:
        outcome = _run_step(name, options, min(slack * known[name].limit, end - time.monotonic()))
        if outcome:
            broken.append(f"{name}: {outcome}")
        write_tables(options.out)
    print(write_tables(options.out))
    for line in (failures := [*broken, *failed_checks(options.out)]):
        print(f"FAILED {line}")
    return 1 if failures else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=sys.modules["benchmarks.gpu"].__doc__)
    parser.add_argument("--device", default="cuda", help="cuda or cpu (tiny presets)")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of records and tables; emptied of records")
    parser.add_argument("--only", default="", help="names of steps, separated by commas")
    parser.add_argument("--budget", type=float, help=f"seconds in all, {_BUDGET['cuda']:.0f} on a GPU if not given")
    parser.add_argument("--step", default="", help=argparse.SUPPRESS)  # run this step in this process
    return parser.parse_args(arguments)


def _run_step(name: str, options: argparse.Namespace, limit: float) -> str:
    """Run a step in a process of its own; returns what went wrong, if anything."""
    if limit < 1:
        return "not started, the time is used up"
    log = options.out / f"{name}.log"
    command = [sys.executable, "-m", "benchmarks.gpu", "--step", name, "--device", options.device, "--out", str(options.out)]
    began = time.monotonic()
    with log.open("w") as stream:
        # A session of its own, so that compilers and tests that it started end with it.
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    outcome = "" if code == 0 else f"stopped after {limit:.0f} s" if code is None else f"exit code {code}, see {log.name}"
    print(f"{name}: {time.monotonic() - began:.1f} s {outcome}", flush=True)
    if outcome:
        print("".join(f"    {line}\n" for line in log.read_text(errors="replace").splitlines()[-8:]), flush=True)
    return outcome


def _run_here(options: argparse.Namespace) -> int:
    import torch

    from benchmarks.gpu.bench import Bench
    from benchmarks.gpu.steps import steps

    tiny = options.device == "cpu"
    bench = Bench(options.step, torch.device(options.device), options.out, tiny, seconds=0.05 if tiny else 1.0)
    try:
        steps(options.device)[options.step].measure(bench)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
