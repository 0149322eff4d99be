"""Trains the jobs of a study and measures their runs, in this process or in several. A failure stops only its own job."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nvgbench.ablations.memory import remembered
from nvgbench.ablations.plan import Job, finished_tokenizers
from nvgbench.ablations.registry import get_study
from nvgbench.ablations.study import Context, StudiedRun, Tables
from nvgbench.allocator import keep_freed_memory
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.interfaces import Progress
from nvgbench.progress import quiet
from nvgbench.runs.folder import PHASES, Phase, RunFolder

Showing = Callable[[str], AbstractContextManager[Progress]]
"""Opens a progress display for the run of this name."""


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        run: the run.
        tables: its rows; empty if it failed.
        error: one line if it failed, else empty.
    """

    run: StudiedRun
    tables: Tables
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class _Training:
    """A call of `nvgbench.training.run.train_run` for another process."""

    config: RunConfig
    folder: Path
    phases: tuple[Phase, ...]
    tokenizer: Path | None
    teacher: Path | None
    device: torch.device


def silent(_: str) -> AbstractContextManager[Progress]:
    """Shows nothing."""
    return nullcontext(lambda event: None)


def train_jobs(
    jobs: Sequence[Job], root: Path, device: torch.device, *, workers: int = 1, showing: Showing = silent
) -> dict[Path, str]:
    """Train what is not finished; tokenizers that several jobs share are trained once, before the generators.

    Args:
        jobs: of a study.
        root: the folder of runs, searched for finished tokenizers.
        device: where to train.
        workers: processes that train at once; with more than one nothing is shown.
        showing: progress of trainings in this process.

    Returns:
        Folder -> error of the jobs that failed, one line each.

    Raises:
        Interrupted: SIGINT or SIGTERM; the same call resumes.
    """
    waiting = [job for job in jobs if job.state != "finished"]
    donors = finished_tokenizers(root)
    leaders = {job.tokenizer: job.folder for job in reversed(waiting) if not (job.tokenizer in donors or job.teacher)}
    first = [_training(job, ("tokenizer",), None, device) for job in waiting if job.folder == leaders.get(job.tokenizer)]
    errors = dict(zip([one.folder for one in first], _each(_train, first, workers, showing), strict=True))
    donors = leaders | donors
    for wave in _waves(waiting):
        errors |= _train_wave(wave, donors, errors, device, workers, showing)
    return {folder: error for folder, error in errors.items() if error}


def _waves(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Jobs that can be trained at the same time; teachers come before those that learn from them."""
    while jobs:
        open_folders = {job.folder for job in jobs}
        wave = [job for job in jobs if job.teacher not in open_folders]
        assert wave, "jobs that learn from each other"
        yield wave
        jobs = [job for job in jobs if job not in wave]


def _train_wave(
    jobs: Sequence[Job],
    donors: Mapping[str, Path],
    errors: Mapping[Path, str],
    device: torch.device,
    workers: int,
    showing: Showing,
) -> dict[Path, str]:
    """Folder -> error of every job, empty if it was trained."""
    found: dict[Path, str] = {}
    tasks = []
    for job in jobs:
        donor = job.teacher or donors[job.tokenizer]
        failed = errors.get(donor) or (job.teacher and errors.get(job.teacher))
        if failed:
            found[job.folder] = failed
            continue
        has_own = donor == job.folder or job.teacher is not None or RunFolder(job.folder).state("tokenizer") is not None
        tasks.append(_training(job, PHASES, None if has_own else donor, device))
    return found | dict(zip([one.folder for one in tasks], _each(_train, tasks, workers, showing), strict=True))


def measure_runs(
    study: str, runs: Sequence[StudiedRun], context: Context, *, workers: int = 1, keep_going: bool = True
) -> list[Outcome]:
    """Measure every run; what was measured before with the same settings is read from the folder of runs.

    Args:
        study: its name.
        runs: what to measure.
        context: of the measurements.
        workers: processes that measure at once.
        keep_going: a measurement that fails ends in an outcome with its error; else its exception is raised.
    """
    context = context if workers == 1 else dataclasses.replace(context, report=quiet)
    tasks = [(study, run, context, keep_going) for run in runs]
    # The first one alone: what all of them need, such as a trained classifier, is made once and not by every process.
    outcomes = _each(_measure, tasks[:1], 1) + _each(_measure, tasks[1:], workers)
    return [one if isinstance(one, Outcome) else Outcome(run, {}, one) for run, one in zip(runs, outcomes, strict=True)]


def _training(job: Job, phases: tuple[Phase, ...], tokenizer: Path | None, device: torch.device) -> _Training:
    return _Training(
        config=job.config, folder=job.folder, phases=phases, tokenizer=tokenizer, teacher=job.teacher, device=device
    )


def _each(function: Callable[..., Any], tasks: Sequence[Any], workers: int, *more: Any) -> list[Any]:
    """The results of the tasks, in their order; a process that dies gives an error text."""
    if workers == 1 or len(tasks) < 2:
        return [function(task, *more) for task in tasks]
    threads = max(1, (os.cpu_count() or 1) // workers)
    context = multiprocessing.get_context("spawn")
    results: list[Any] = []
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(threads,)) as pool:
        for future in [pool.submit(function, task) for task in tasks]:
            try:
                results.append(future.result())
            except BrokenProcessPool:
                results.append("a process of the pool died; start again, with fewer jobs if memory was short")
    return results


def _start_worker(threads: int) -> None:
    keep_freed_memory()
    torch.set_num_threads(threads)


def _train(task: _Training, showing: Showing = silent) -> str:
    """Train one job; its error in one line, empty if there is none."""
    from nvgbench.training.run import train_run

    try:
        with showing(task.folder.name) as progress:
            train_run(
                task.config, task.folder,
                device=task.device, progress=progress, tokenizer=task.tokenizer, teacher=task.teacher, phases=task.phases,
            )  # fmt: skip
    except Exception as error:  # one training must not stop the others; an interruption is no Exception
        return _one_line(error)
    return ""


def _measure(task: tuple[str, StudiedRun, Context, bool]) -> Outcome:
    name, run, context, keep_going = task
    try:
        return Outcome(run, _remembered(name, run, context))
    except Exception as error:  # as above
        if not keep_going:
            raise
        return Outcome(run, {}, _one_line(error))


def _remembered(name: str, run: StudiedRun, context: Context) -> Tables:
    """The rows of one run, each headed by the run's place in the design."""
    study = get_study(name)
    tables = remembered(study.name, study.version, run.folder, context, lambda: study.measure(run, context))
    place = {"variant": run.variant, "seed": run.seed, "run": run.folder.name}
    return {table: [place | row for row in rows] for table, rows in tables.items()}


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
