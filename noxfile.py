"""Tasks for people and CI: ``nox -s quickstart``, ``nox -s tests``, ``nox -s lint``, ``nox -s docs`` …

uv makes the environments if it is installed: it links files instead of copying them, so that another environment costs little.
Otherwise virtualenv and pip do.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "docs", "tests"]

TINY = ("nvg-tiny", "var-tiny", "ar-tiny")
# Generator steps of the quickstart. A step of AR costs a quarter of NVG's, and 1,200 are too few for it.
QUICK = {"nvg-tiny": 1200, "var-tiny": 1200, "ar-tiny": 2000}
# The package that a preset's tokenizer comes with.
TOKENIZERS = {
    "nvg-tiny": Path("nvgbench/nvg/tokenizers"),
    "var-tiny": Path("baselines/nvgbench_baselines/var/tokenizers"),
    "ar-tiny": Path("baselines/nvgbench_baselines/ar/tokenizers"),
}
CORES = os.cpu_count() or 1
AT_ONCE = min(len(TINY), CORES)
GATE = ("--baseline", "reports/gates/baselines/tiny.json", "--rules", "reports/gates/tiny.toml")
# pip compiles what it installs, uv does not unless asked; sessions that start many processes would compile torch in each.
COMPILED = {"UV_COMPILE_BYTECODE": "1"}
# One that is trained on the data, and a published one whose weights are in a package.
EXTRACTORS = ("--extractors", "classifier,efficientnet-lite0")
# A minute of training, enough to show whether anything is learnt.
SHORT = ("train.tokenizer.steps=100", "train.generator.steps=60", "data.train_images=1024", "data.eval_images=512")


@nox.session
def tests(session: nox.Session) -> None:
    """The test suite, except for tests that need a GPU or take minutes."""
    session.install("-e", ".[test]", env=COMPILED)
    # One process per core, each on one thread (tests/conftest.py): the models are too small to share between threads.
    workers = ("-n", "auto", "--dist", "loadfile")
    session.run("pytest", *workers, "-m", "not gpu and not full_size and not slow", *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """Speed and correctness on one GPU in six minutes, into runs/gpu; ``-- --device cpu``: the same with the tiny presets."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "benchmarks.gpu", *session.posargs)


@nox.session
def full_size(session: nox.Session) -> None:
    """Tests of models of the published sizes: minutes, and several GiB of memory and disk."""
    session.install("-e", ".[test]")
    session.run("pytest", "-m", "full_size", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """ruff and mypy."""
    session.install("-e", ".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into build/site; every warning is an error."""
    session.install(*nox.project.dependency_groups(nox.project.load_toml("pyproject.toml"), "docs"))
    for notebook in Path("docs").glob("*.ipynb"):
        session.run("jupyter", "nbconvert", "--to", "markdown", "--log-level", "WARN", str(notebook))
    said = session.run("zensical", "build", "--clean", "--strict", silent=True)
    session.log(said)
    # Zensical lets mistakes in docstrings pass. A line for several parameters ("x, y: means") is none.
    if any(line.startswith("griffe:") and not re.search(r"'\w+(, \w+)+'", line) for line in said.splitlines()):
        session.error("fix the docstrings named above")


@nox.session
def notebook(session: nox.Session) -> None:
    """Run docs/tour.ipynb and keep its outputs."""
    session.install("-e", ".", "nbconvert", "ipykernel")
    place = shutil.copy("docs/tour.ipynb", session.create_tmp())  # its runs stay there, and are resumed
    quiet = "--ExecutePreprocessor.record_timing=False"  # the committed file changes only where its outputs do
    session.run("jupyter", "nbconvert", "--to", "notebook", "--execute", "--inplace", quiet, place)
    shutil.copy(place, "docs/tour.ipynb")


@nox.session
def verify(session: nox.Session) -> None:
    """Recompute the golden numbers of the original codes with a fresh installation."""
    session.install(".")
    for family in ("var", "nvg"):
        session.run("nvgbench", "verify", family, *session.posargs)


@nox.session
def gate(session: nox.Session) -> None:
    """Gate costs of presets and scores of very short trainings; ``-- --update`` renews the baseline."""
    session.install("-e", ".[efficientnet]", env=COMPILED)
    # The order of summation, and with it the result of a training, depends on the number of threads.
    session.env["OMP_NUM_THREADS"] = "1"
    runs = "runs/gate"
    shutil.rmtree(runs, ignore_errors=True)
    session.run("nvgbench", "gate", "cost", *TINY, "nvg-d16", "var-d16", "--out", f"{runs}/cost/records.jsonl")
    settings = [word for setting in SHORT for word in ("--set", setting)]
    place = ("--runs", runs, "--device", "cpu")
    score = (*place, "-n", "500", *EXTRACTORS)
    _at_once(session, [(("train", preset, *place, *settings), ("eval", preset, *score)) for preset in TINY], threads=1)
    session.run("nvgbench", "gate", *GATE, "--runs", runs, *session.posargs)
    session.run("nvgbench", "gate", "selftest")


@nox.session
def benchmarks(session: nox.Session) -> None:
    """Time the hot code and what it replaces."""
    session.install("-e", ".[test]")
    session.run("pytest", "benchmarks", "--benchmark-only", "--benchmark-columns=median,iqr,rounds", *session.posargs)


@nox.session
def quickstart(session: nox.Session) -> None:
    """Train NVG, VAR and AR on procedural shapes, score them side by side, write reports/quickstart/index.html."""
    session.install("-e", ".", env=COMPILED)
    runs = ("--runs", "runs/quickstart")
    score = ("-n", "1000", *runs)
    session.log(f"1/3 train {', '.join(TINY)} on tokenizers that come with nvgbench, score them: 5 minutes on two cores")
    jobs: list[list[tuple[str, ...]]] = []
    for preset, steps in QUICK.items():
        train = ("--tokenizer", f"{preset}-tokenizer", "--set", f"train.generator.steps={steps}", *runs)
        jobs.append([("train", preset, *train), ("eval", preset, *score)])
    # These need the runs, but not their generators.
    jobs += [[("eval", "--anchors", *score)], [("ablate", "clusters", "nvg-tiny", *runs)]]
    # Models this small make poor use of more than one core.
    _at_once(session, jobs, threads=max(1, CORES // AT_ONCE))
    session.log("2/3 measure speed and memory, with nothing else running: half a minute")
    session.run("nvgbench", "profile", *TINY, *runs)
    session.log("3/3 write the report: seconds")
    session.run("nvgbench", "report", "--all", *runs, "--out", "reports/quickstart/index.html")


@nox.session
def tokenizers(session: nox.Session) -> None:
    """Train the tokenizers that come with the package again: about 40 minutes on two cores."""
    session.install("-e", ".", env=COMPILED)
    length = ("--phase", "tokenizer", "--set", "train.tokenizer.steps=12000", "--device", "cpu")
    runs = Path("runs/tokenizers")
    jobs = [(("train", preset, *length, "--name", f"{preset}-tokenizer", "--runs", str(runs)),) for preset in TINY]
    _at_once(session, jobs, threads=1)
    for preset, folder in TOKENIZERS.items():
        name = f"{preset}-tokenizer"
        shutil.rmtree(folder / name, ignore_errors=True)
        # A training that takes another run's tokenizer keeps its averaged weights and nothing else.
        session.run(
            "nvgbench", "train", preset, *length, "--tokenizer", str(runs / name), "--name", name, "--runs", str(folder)
        )
        shutil.copy(runs / name / "records.jsonl", folder / name)


def _at_once(session: nox.Session, jobs: Sequence[Sequence[tuple[str, ...]]], threads: int) -> None:
    """Several jobs at a time, in this order: the longest first. A job is commands one after another, each with its threads."""
    env = {"OMP_NUM_THREADS": str(threads)}

    def one(commands: Sequence[tuple[str, ...]]) -> None:
        for command in commands:
            session.run("nvgbench", *command, env=env)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(one, jobs))
