"""What happens before a training starts: everything is checked, and only then the run's folder is written."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from nvgbench.config.schema import RunConfig
from nvgbench.data.dataset import ImageDataset
from nvgbench.data.source import training_set
from nvgbench.errors import InputError
from nvgbench.interfaces import Progress
from nvgbench.registry import get_family
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.dataset_info import DatasetInfo, relative_location
from nvgbench.runs.folder import PHASES, Phase, RunFolder
from nvgbench.runs.lock import locked
from nvgbench.training.continuation import Change, Continuation, continued_config, plan_change
from nvgbench.training.distributed import Processes
from nvgbench.training.frozen import freeze
from nvgbench.training.initial import InitialWeights, check_origin
from nvgbench.training.loggers import check_loggers
from nvgbench.training.plan import micro_batch, planned_modules, resolve_config, tokenizer_differences
from nvgbench.training.validation import held_out_images


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """What `nvgbench.training.run.train_run` was asked for; see there."""

    config: RunConfig
    folder: Path
    tokenizer: RunFolder | None
    init: RunFolder | None
    teacher: RunFolder | None
    phases: Sequence[Phase]
    group: str
    changes: Continuation


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A run whose folder is written and locked."""

    run: RunFolder
    config: RunConfig
    dataset: ImageDataset
    initial: InitialWeights | None


@contextlib.contextmanager
def prepared(request: Request, device: torch.device, processes: Processes, progress: Progress) -> Iterator[Prepared]:
    """Check a request and open its run for writing, as the only one.

    Raises:
        InputError: bad configuration, data or folder; nothing was written. Or another process is training the run.
        OSError: the folder cannot be written.
    """
    asked, warnings = resolve_config(request.config, device)
    for warning in warnings:
        progress({"message": warning})
    run = RunFolder(request.folder)
    request = dataclasses.replace(request, config=_with_images(asked, run))
    if request.config is not asked:
        own = request.config.data.source
        progress({"message": f"warning: {asked.data.source} is not there; the images are those of the run, {own}"})
    with contextlib.ExitStack() as stack:

        def lock() -> None:
            stack.enter_context(locked(request.folder))

        existed = processes.first(lambda: run.exists)
        if existed:
            processes.first(lock)
        config = processes.first(lambda: _checked_config(run, request, processes.world_size))
        dataset = _open(config, run if existed else None)
        info = _dataset_info(dataset, config, run)
        initial = processes.first(lambda: _initial(run, request, config, info))
        if config.train.validate_every is not None:
            processes.first(lambda: len(held_out_images(config)))
        change = processes.first(lambda: _checked_change(run, request, info))
        if not existed:
            processes.first(lock)
        config = processes.first(lambda: _write(run, request, change, info))
        for note in change.notes:
            progress({"message": note})
        yield Prepared(run=run, config=config, dataset=dataset, initial=initial)


def _checked_config(run: RunFolder, request: Request, processes: int) -> RunConfig:
    """The configuration to train, before the data set is opened, which can take a while."""
    changes = request.changes
    if run.exists:
        config = continued_config(run, request.config, changes.settings)
    else:
        run.check_free()
        if changes.settings or changes.rewind is not None:
            raise InputError(f"there is no run {run.path} to continue; without it, use `set=` for other settings")
        config = request.config
    check_loggers(config)
    for phase in request.phases:
        micro_batch(phase, getattr(config.train, phase), processes)
    if request.tokenizer is not None:
        _check_tokenizer(config, request.tokenizer)
    if not run.is_finished("generator"):
        _check_training(config, request.phases)
    return config


def _with_images(config: RunConfig, run: RunFolder) -> RunConfig:
    """With the run's own place of the images, if they are no longer where the configuration says."""
    location = config.data.source.partition(":")[2]
    if not location or os.path.exists(location) or not run.exists:
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.data, source=run.config.data.source))


def _check_training(config: RunConfig, phases: Sequence[Phase]) -> None:
    """Find out now what would stop the generator's training, rather than after days of the tokenizer's.

    Even if only the tokenizer is trained, the generator must be one that can be built: the run keeps its configuration.

    Raises:
        InputError: sizes that do not fit together, or the family's own reasons.
    """
    models = planned_modules(config, num_classes=1)  # the data set is not open yet; any number of classes will do
    for phase, model in zip(PHASES, models, strict=True):
        if phase in phases:
            freeze(model, getattr(config.train, phase).frozen, f"train.{phase}.frozen")
    if "generator" in phases:
        get_family(config.family).check_training(config)


def _check_tokenizer(config: RunConfig, source: RunFolder) -> None:
    """Whether another run's tokenizer can be used.

    Raises:
        InputError: it is not finished, or of another shape.
    """
    if not source.is_finished("tokenizer"):
        raise InputError(f"`tokenizer={source.path}`: that run has no finished tokenizer")
    differing = tokenizer_differences(config, source.config)
    if differing:
        raise InputError(f"`tokenizer={source.path}` does not fit: {', '.join(differing)} differ; set them to the same values")


def _open(config: RunConfig, existing: RunFolder | None) -> ImageDataset:
    data = config.data
    try:
        return training_set(data)
    except InputError as error:
        location = data.source.partition(":")[2]
        if existing is None or not location or os.path.exists(location):
            raise
        raise InputError(f"{error}; if the images of {existing.path} have moved, give their new place by `data=`") from None


def _dataset_info(dataset: ImageDataset, config: RunConfig, run: RunFolder) -> DatasetInfo:
    return DatasetInfo(
        name=dataset.name,
        classes=dataset.classes,
        images=len(dataset),
        fingerprint=dataset.fingerprint,
        relative=relative_location(config.data.source, run.path),
    )


def _initial(run: RunFolder, request: Request, config: RunConfig, info: DatasetInfo) -> InitialWeights | None:
    """The weights that the training starts from, if any."""
    initial = None
    if request.init is not None:
        own_tokenizer = request.tokenizer is not None
        initial = InitialWeights(request.init, config, info.classes, request.phases, own_tokenizer=own_tokenizer)
    elif request.teacher is not None:
        taken = get_family(config.family).taken_from_teacher(config)
        initial = InitialWeights(request.teacher, config, info.classes, ("generator",), only=taken)
    check_origin(run, initial, request.phases)
    return initial


def _checked_change(run: RunFolder, request: Request, info: DatasetInfo) -> Change:
    family = request.config.family
    if not info.classes and not get_family(family).unconditional:
        raise InputError(f"{info.name} is used without classes, and models of family {family!r} need them; use class folders")
    if not run.exists:
        _check_phases(run, request)
        return Change(config=request.config)
    if run.knows_dataset:
        run.check_dataset(info, request.changes.accept_data)
    _check_phases(run, request)
    return plan_change(run, request.config, request.changes, info.images)


def _check_phases(run: RunFolder, request: Request) -> None:
    given = any(source is not None for source in (request.tokenizer, request.init, request.teacher))
    if "tokenizer" in request.phases or given or run.is_finished("tokenizer"):
        return
    raise InputError(
        f"{run.path} has no finished tokenizer, which the generator needs; train it first, or use another run's (`tokenizer=`)"
    )


def _write(run: RunFolder, request: Request, change: Change, info: DatasetInfo) -> RunConfig:
    """Create or update the folder, and return the configuration to train."""
    run = RunFolder.create(run.path, request.config, request.group)
    change.apply(run)
    keep = ckpt.Keep(change.config.train.keep_last, change.config.train.keep_best)
    for phase in PHASES:
        ckpt.clean(run.checkpoints(phase), keep)
    run.note_dataset(info, request.changes.accept_data)
    return change.config
