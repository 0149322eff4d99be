"""The steps of a session in order of worth: a session that is cut off has measured the first ones."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.gpu.bench import Bench

# Without a GPU all of them are skipped; that they are found is enough then.
_MORE_TESTS = {True: (), False: ("tests/unit", "tests/parity")}


@dataclass(frozen=True)
class Step:
    """A part of the session.

    Attributes:
        limit: seconds after which it is stopped.
        measure: what it does, in a process of its own.
        optional: whether it runs only if named.
    """

    limit: float
    measure: Callable[[Bench], None]
    optional: bool = False


def steps(device: str) -> dict[str, Step]:
    """All steps by name; on a CPU without most golden numbers, which ``nox -s verify`` and the tests recompute there."""
    verified = [("var", "bf16")]
    if device != "cpu":
        verified += [("nvg", "bf16"), ("var", "float32"), ("nvg", "float32")]
    return {
        "ceilings": Step(20, partial(_module, "ceilings")),
        "clustering": Step(50, partial(_module, "clustering")),
        "generation": Step(150, partial(_module, "generation")),
        "decoder": Step(30, partial(_module, "decoder")),
        "tests": Step(60, _tests),
        "training": Step(130, partial(_module, "training")),
        **{f"verify-{name}-{dtype}": Step(60, partial(_verify, name, dtype)) for name, dtype in verified},
        # For work on the samplers and the kernel: each path by itself, and all paths against each other.
        **{name: Step(300, partial(_module, name), optional=True) for name in ("baselines", "block", "kernel")},
        "sampling": Step(300, partial(_script, "sampling"), optional=True),
    }


def _module(name: str, bench: Bench) -> None:
    importlib.import_module(f"benchmarks.gpu.{name}").measure(bench)


def _script(name: str, bench: Bench) -> None:
    """A script that writes its results beside the records."""
    command = [sys.executable, "-m", f"benchmarks.gpu.{name}", "--device", str(bench.device), "--out", str(bench.out)]
    done = subprocess.run(command, check=False)
    bench.check(name, f"benchmarks.gpu.{name}", done.returncode == 0, f"exit code {done.returncode}")


def _verify(family: str, dtype: str, bench: Bench) -> None:
    """Golden numbers of the original code on this device."""
    command = [sys.executable, "-m", "nvgbench", "verify", family, "--dtype", dtype, "--device", str(bench.device), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    checks = [check for fixture in json.loads(done.stdout)["fixtures"] for check in fixture["checks"]]
    for check in checks:
        if check["verdict"] == "fail":
            remark = f"relative {check['relative']}, limit {check['limit']} {check['remark']}"
            bench.check(f"verify {family}", f"{check['name']} {check['part']}".rstrip(), False, remark, precision=dtype)
    verdicts = [check["verdict"] for check in checks]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    bench.check(f"verify {family}", "golden numbers", done.returncode == 0, counts, precision=dtype)


def _tests(bench: Bench) -> None:
    """The tests that need a CUDA device; without one, all of them are skipped."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "tests/gpu",
        *_MORE_TESTS[bench.tiny],
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    print(done.stdout, flush=True)
    lines = done.stdout.strip().splitlines()
    bench.check("tests", "pytest -m gpu", done.returncode == 0, lines[-1].strip("= ") if lines else "no output")
