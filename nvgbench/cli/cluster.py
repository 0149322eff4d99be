"""Running a command as a job of a cluster, through submitit: ``--executor slurm``, or ``local`` for this machine."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from nvgbench.errors import InputError

Executor = Annotated[
    Literal["slurm", "local"] | None,
    typer.Option(help="Submit this command as a job (needs nvgbench\\[cluster]); a preempted job is requeued and resumes."),
]
JobSettings = Annotated[
    list[str],
    typer.Option(
        "--job",
        metavar="KEY=VALUE",
        help="With --executor: a parameter of submitit, e.g. gpus_per_node=8 or slurm_partition=NAME. Repeatable.",
    ),
]

_OPTIONS = ("--executor", "--job")
# A job may run into its time limit this many times before it is not requeued any more.
_TIMEOUTS = 100
_INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """A command line of nvgbench in a job, once per task; the tasks form one process group.

    Before the time is up or the job is preempted, the scheduler sends SIGUSR2, at which submitit would end the process at once.
    Instead, the command is interrupted as by Ctrl-C, so that a training writes a checkpoint; then submitit requeues the job.
    """

    arguments: tuple[str, ...]

    def __call__(self) -> None:
        from submitit import JobEnvironment
        from submitit.helpers import TorchDistributedEnvironment

        from nvgbench.cli.app import main

        TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        number = JobEnvironment._usr_sig()
        code, preempted = _interruptible(number, lambda: main(list(self.arguments)))
        if preempted is not None and code == _INTERRUPTED:
            preempted(number, None)  # in the first task, requeues the job and exits
        elif code:
            sys.exit(code)

    def checkpoint(self) -> Any:
        """What a requeued job does: the same, as every command resumes."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _interruptible(number: int, work: Callable[[], None]) -> tuple[int, Callable[[int, Any], None] | None]:
    """Exit code of ``work``, and the handler of signal ``number`` if it came meanwhile, which is asked for only then."""
    handler: Any = signal.getsignal(number)
    received = False

    def interrupt(number: int, frame: Any) -> None:
        nonlocal received
        received = True
        signal.raise_signal(signal.SIGINT)

    signal.signal(number, interrupt)
    try:
        work()
        code: Any = 0
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:  # outside of the command's own handling
        code = _INTERRUPTED
    finally:
        signal.signal(number, handler)
    return int(code or 0), handler if received else None


def submit(line: Sequence[str], executor: str, settings: Sequence[str], runs: Path, *, distributed: bool = True) -> None:
    """Submit a command line as a job and print where its output goes.

    Args:
        line: all arguments, with the options of this module.
        executor: ``slurm`` or ``local``.
        settings: ``KEY=VALUE`` parameters of submitit.
        runs: the folder of runs; job files are kept in ``_jobs``, which all nodes must see.
        distributed: whether the command can run as several tasks; then there is one per GPU, else only one.

    Raises:
        InputError: submitit is not installed or refuses the parameters, the cluster's commands are missing, or there are
            several tasks for a command that runs as one.
    """
    from nvgbench.config.load import parse_overrides

    try:
        import submitit
    except ImportError:
        raise InputError(f"`executor={executor}` needs submitit; install nvgbench[cluster]") from None
    parameters = {"name": f"nvgbench-{line[0]}", "timeout_min": 24 * 60, **parse_overrides(settings)}
    parameters.setdefault("tasks_per_node", (parameters.get("gpus_per_node") if distributed else 1) or 1)
    for key in () if distributed else ("nodes", "tasks_per_node"):
        if parameters.get(key, 1) != 1:
            raise InputError(
                f"`{key}={parameters[key]}`: {line[0]} runs as one task; leave it out, or use more processes (`jobs`)"
            )
    limits = {f"{executor}_max_num_timeout": _TIMEOUTS}
    try:
        launcher = submitit.AutoExecutor(folder=runs / "_jobs", cluster=executor, **limits)
        launcher.update_parameters(**parameters)
        job = launcher.submit(Command(tuple(_without_options(line))))
    except (RuntimeError, NameError, ValueError, AssertionError, submitit.core.utils.FailedJobError) as error:
        raise InputError(f"`executor={executor}`: {' '.join(str(error).split())}") from error
    typer.echo(f"job {job.job_id} submitted; it writes its output to {job.paths.stdout}")


def _without_options(line: Sequence[str]) -> list[str]:
    """The command line that the job runs."""
    kept: list[str] = []
    arguments = iter(line)
    for argument in arguments:
        if argument in _OPTIONS:
            next(arguments, None)
        elif not argument.startswith(tuple(f"{option}=" for option in _OPTIONS)):
            kept.append(argument)
    return kept
