"""Kill trainings at random moments, resume them, and compare them with an uninterrupted one.

``python benchmarks/kill_trials.py --out trials.jsonl`` runs what is missing of 50 trials and prints their table. Each starts
``nvgbench train`` on a small configuration, sends one signal, waits until every process is gone, runs the same command again
to the end, and checks that

* no checkpoint that existed at the signal is lost,
* after a signal that asks to stop, the checkpoint holds every step that was logged,
* the final weights equal those of the uninterrupted training bit for bit (with two processes as well: the sum of two
  gradients does not depend on their order).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import platform
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

SIGNALS = ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT")
TARGETS = {"one process": ("process",), "two data workers": ("process", "group"), "torchrun, two": ("launcher", "one", "all")}
_SMALL = (
    "data.image_size=16", "tokenizer.channel_multipliers=[1,2,2]", "tokenizer.codebook_size=32", "model.depth=1",
    "train.steps=16", "train.log_every=1", "train.checkpoint_every=5", "train.tokenizer.batch_size=4",
    "train.generator.batch_size=4",
)  # fmt: skip
_FROM_FILES = ("data.augment=random-crop", "train.cache_tokens=false")
_PATIENCE = 300.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Trial:
    """One killed training: what was done, and what came of it."""

    number: int
    mode: str
    target: str
    signal: str
    moment: str
    step: str
    kept: bool
    complete: bool
    equal: bool
    seconds: float

    @property
    def passed(self) -> bool:
        return self.kept and self.complete and self.equal


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--trials", type=int, default=50)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--out", type=Path, default=Path("kill_trials.jsonl"), help="finished trials; the rest is run")
    options.add_argument("--work", type=Path, default=Path("kill_trials"), help="folder for runs and images")
    given = options.parse_args()
    # Under nohup or in the background of a script these are ignored, and the trainings would inherit that.
    signal.signal(signal.SIGHUP, lambda number, frame: None)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    done = [Trial(**json.loads(line)) for line in given.out.read_text().splitlines()] if given.out.exists() else []
    _make_images(given.work / "images")
    references: dict[str, tuple[str, float]] = {}
    for number, (mode, target, name) in itertools.islice(enumerate(_plan(given.seed)), len(done), given.trials):
        if mode not in references:
            references[mode] = _reference(given.work, mode)
        trial = _run_trial(given.work, number, mode, target, name, *references[mode], random.Random(f"{given.seed}/{number}"))
        done.append(trial)
        with given.out.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(dataclasses.asdict(trial)) + "\n")
        print(trial, file=sys.stderr, flush=True)
    print(table(done))
    sys.exit(not all(trial.passed for trial in done))


def table(trials: list[Trial]) -> str:
    """A row per way of training and target; each signal as passed/trials."""
    lines = [f"| training | signal to | {' | '.join(SIGNALS)} |", f"| --- | --- | {' | '.join('---' for _ in SIGNALS)} |"]
    for mode, targets in TARGETS.items():
        for target in targets:
            cells = []
            for name in SIGNALS:
                found = [one for one in trials if (one.mode, one.target, one.signal) == (mode, target, name)]
                cells.append(f"{sum(one.passed for one in found)}/{len(found)}")
            lines.append(f"| {mode} | {target} | {' | '.join(cells)} |")
    passed = sum(trial.passed for trial in trials)
    lines += ["", f"{passed} of {len(trials)} passed; {date.today()}, {platform.system()}, {os.cpu_count()} cores."]
    return "\n".join(lines)


def _plan(seed: int) -> Iterator[tuple[str, str, str]]:
    """Every way, target and signal in turn, in another order each time."""
    every = [(mode, target, name) for mode, targets in TARGETS.items() for target in targets for name in SIGNALS]
    for turn in itertools.count():
        yield from random.Random(f"{seed}/{turn}").sample(every, len(every))


def _make_images(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for label, index in itertools.product(("a", "b", "c"), range(12)):
        (folder / label).mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(folder / label / f"{index:02}.png")


def _command(work: Path, mode: str, name: str) -> list[str]:
    settings = list(_SMALL)
    train = ["-m", "nvgbench", "train", "ar-tiny", "--device", "cpu", "--runs", str(work / "runs"), "--name", name]
    if mode == "one process":
        settings += ["data.train_images=24"]
    else:
        train += ["--data", f"imagefolder:{work / 'images'}"]
        settings += [*_FROM_FILES, "data.workers=2" if mode == "two data workers" else "data.workers=0"]
    train += [word for setting in settings for word in ("--set", setting)]
    if mode != "torchrun, two":
        return [sys.executable, *train]
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    return [sys.executable, *launcher, *train]


def _start(work: Path, mode: str, name: str) -> subprocess.Popen:
    with (work / f"{name}.log").open("a") as log:
        return subprocess.Popen(
            _command(work, mode, name),
            stdout=log,
            stderr=log,
            start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )


def _reference(work: Path, mode: str) -> tuple[str, float]:
    """Hash of the weights of an uninterrupted training, and its duration from the folder's appearance on."""
    name = f"reference-{mode.split()[0].strip(',')}"
    run = work / "runs" / name
    process = _start(work, mode, name)
    _wait_for(run / "config.toml", process)
    started = time.monotonic()
    if process.wait(_PATIENCE):
        raise SystemExit(f"the reference failed, see {work / name}.log")
    return _weights(run), time.monotonic() - started


def _run_trial(
    work: Path, number: int, mode: str, target: str, name: str, expected: str, duration: float, rng: random.Random
) -> Trial:
    run = work / "runs" / f"trial-{number:02}"
    began = time.monotonic()
    process = _start(work, mode, run.name)
    tree = _wait_for(run / "config.toml", process)
    delay = rng.uniform(0, duration)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    tree |= _tree(process)
    before = _checkpoints(run)
    _send(process, target, getattr(signal, name), rng)
    _wait_until_gone(process, tree)
    logged, after = _logged(run), _checkpoints(run)
    again = _start(work, mode, run.name)
    code = again.wait(_PATIENCE)
    return Trial(
        number=number,
        mode=mode,
        target=target,
        signal=name,
        moment=f"{delay:.2f} s of {duration:.2f}",
        step=f"{logged[0]} {logged[1]}",
        kept=after >= before,
        complete=name == "SIGKILL" or after >= logged,
        equal=code == 0 and _weights(run) == expected,
        seconds=round(time.monotonic() - began, 1),
    )


def _send(process: subprocess.Popen, target: str, number: signal.Signals, rng: random.Random) -> None:
    children = [child for child in _children(process) if child.parent() is not None]
    with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
        if target == "one" and children:
            rng.choice([child for child in children if child.ppid() == process.pid] or children).send_signal(number)
        elif target in ("group", "all"):
            groups = {os.getpgid(child.pid) for child in children} | {process.pid}
            for group in groups:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, number)
        else:
            os.kill(process.pid, number)


def _children(process: subprocess.Popen) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(process.pid).children(recursive=True)
    return []


def _tree(process: subprocess.Popen) -> set[psutil.Process]:
    return set(_children(process))


def _wait_for(path: Path, process: subprocess.Popen) -> set[psutil.Process]:
    """Wait for a file; returns the descendants of the process."""
    end = time.monotonic() + _PATIENCE
    while not path.exists() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    return _tree(process)


def _wait_until_gone(process: subprocess.Popen, tree: set[psutil.Process]) -> None:
    """Also of orphans of a killed launcher, which train on to the end."""
    process.wait(_PATIENCE)
    _, left = psutil.wait_procs(list(tree), timeout=_PATIENCE)
    if left:
        raise SystemExit(f"still running after {_PATIENCE:.0f} s: {left}")


def _checkpoints(run: Path) -> tuple[int, int]:
    """Phase (1 tokenizer, 2 generator) and step of the last checkpoint."""
    found = [(0, 0)]
    for number, phase in enumerate(("tokenizer", "generator"), 1):
        found += [(number, int(path.name[5:])) for path in run.glob(f"checkpoints/{phase}/step-*")]
    return max(found)


def _logged(run: Path) -> tuple[int, int]:
    """Phase and step of the last line of the log."""
    found = [(0, 0)]
    with contextlib.suppress(FileNotFoundError):
        for line in (run / "train.jsonl").read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                row = json.loads(line)
                found.append((("tokenizer", "generator").index(row["phase"]) + 1, row["step"]))
    return found[-1]


def _weights(run: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(run.glob("checkpoints/*/*/*.safetensors")):
        digest.update(str(path.relative_to(run)).encode() + path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    main()
