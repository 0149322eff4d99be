"""A whole training: data, tokenizer, tokens, generator, record. Called again, it resumes where it stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from nvgbench.config.schema import RunConfig
from nvgbench.data.dataset import ImageDataset
from nvgbench.device import resolve_compile
from nvgbench.errors import InputError
from nvgbench.files import StrPath
from nvgbench.interfaces import Progress
from nvgbench.runs.folder import PHASES, Phase, RunFolder
from nvgbench.training.continuation import Continuation
from nvgbench.training.distributed import join_processes
from nvgbench.training.interrupt import StopSignal
from nvgbench.training.log import TrainLog
from nvgbench.training.loggers import open_loggers
from nvgbench.training.phases import Job, copy_tokenizer, train_generator, train_tokenizer
from nvgbench.training.preparation import Request, prepared
from nvgbench.training.record import append_train_record


def train_run(
    config: RunConfig,
    folder: StrPath,
    *,
    device: torch.device,
    progress: Progress,
    tokenizer: StrPath | None = None,
    init: StrPath | None = None,
    teacher: StrPath | None = None,
    phases: Sequence[Phase] = PHASES,
    group: str = "",
    continue_with: Mapping[str, Any] | None = None,
    rewind: int | None = None,
    accept_data: bool = False,
) -> RunFolder:
    """Train a run, or whatever of it is not trained yet, and append a record.

    A run that is killed at any moment and started again ends with the weights of an uninterrupted one: bit for bit on a CPU
    with the same number of threads, up to the rounding of non-deterministic kernels on CUDA.

    Args:
        config: the configuration; batches that are too large for a CPU are reduced (see `nvgbench.training.plan`). Of an
            existing run, settings that do not determine the weights may differ (see `nvgbench.config.identity`).
        folder: the run's folder, created if needed.
        device: where to train; under torchrun, every process uses its own CUDA device instead.
        progress: called with ``phase, done, total``, at every line of the log also ``losses, lr, images_per_second``; or with
            ``message``.
        tokenizer: folder of a run whose tokenizer is used instead of training one.
        init: folder of a run whose weights the training starts from, see `nvgbench.training.initial`.
        teacher: folder of a run to learn from: its tokenizer is used, and what the family takes of its generator. It is needed
            again to resume.
        phases: ``tokenizer``, ``generator`` or both.
        group: common name of the trainings of several seeds, if this is one of them.
        continue_with: settings to change from the last checkpoint on, by key, such as ``train.generator.steps``. They begin a
            new segment of the run.
        rewind: first return to the newest checkpoint of the phase in training at or before this step; 0 starts it anew.
        accept_data: resume with other images of the same classes.

    Raises:
        InputError: bad configuration, data or folder; another process is training this run; a loss that is not finite.
        Interrupted: by SIGINT, SIGTERM, SIGHUP or SIGUSR1; the same call resumes.
        OSError: something could not be written; the last checkpoint is intact.
    """
    changes = Continuation(settings=dict(continue_with or {}), rewind=rewind, accept_data=accept_data)
    if teacher is not None and (init is not None or tokenizer is not None):
        raise InputError("`teacher=` brings its own tokenizer and weights; leave `init=` and `tokenizer=` out")
    source, start, known = (None if given is None else RunFolder(given) for given in (tokenizer, init, teacher))
    request = Request(
        config=config,
        folder=Path(folder),
        tokenizer=source,
        init=start,
        teacher=known,
        phases=phases,
        group=group,
        changes=changes,
    )
    with contextlib.ExitStack() as stack:
        processes, device = stack.enter_context(join_processes(device))
        stop = stack.enter_context(StopSignal())
        if "generator" in phases:
            resolve_compile(config.train.compile, device)  # before the tokenizer is trained
        progress = progress if processes.is_first else _silent
        ready = stack.enter_context(prepared(request, device, processes, progress))
        run, dataset = ready.run, ready.dataset
        told = _tell_remarks(dataset, progress, set())
        loggers = open_loggers(run, ready.config) if processes.is_first else []
        log = stack.enter_context(contextlib.closing(TrainLog(run.log_path, loggers)))
        job = Job(
            run=run, config=ready.config, dataset=dataset, device=device,
            processes=processes, progress=progress, stop=stop, log=log, initial=ready.initial, teacher=known,
        )  # fmt: skip
        if source is None and ready.initial is not None and run.state("tokenizer") is None:
            source = ready.initial.tokenizer
        if source is not None:
            copy_tokenizer(job, source)
        if "tokenizer" in phases:
            train_tokenizer(job)
            told = _tell_remarks(dataset, progress, told)
        if "generator" in phases:
            train_generator(job)
            _tell_remarks(dataset, progress, told)
        if processes.is_first:
            if run.is_finished("generator"):
                run.token_cache_path.unlink(missing_ok=True)
            append_train_record(run, device, processes.world_size)
        processes.barrier()
    return run


def _tell_remarks(dataset: ImageDataset, progress: Progress, told: set[str]) -> set[str]:
    """Print the remarks on the data that are not told yet; some are known only once the images have been read."""
    remarks = {str(remark) for remark in dataset.remarks}
    for remark in sorted(remarks - told):
        progress({"message": f"warning: {remark}"})
    return told | remarks


def _silent(event: object) -> None:
    """Progress of all processes but the first."""
