"""A whole training: data, tokenizer, tokens, generator, record. Called again, it resumes where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nvgbench.config.schema import RunConfig
from nvgbench.data.dataset import ImageDataset
from nvgbench.data.loader import sequential_batches, training_batches
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError
from nvgbench.files import StrPath
from nvgbench.interfaces import Objective, Progress
from nvgbench.registry import get_family
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.folder import PHASES, DatasetInfo, Phase, RunFolder
from nvgbench.runs.models import seeded_generator, seeded_tokenizer
from nvgbench.runs.seeding import mix_seed
from nvgbench.training.batches import join_tokens
from nvgbench.training.distributed import Processes, join_processes
from nvgbench.training.frozen import freeze
from nvgbench.training.initial import InitialWeights, check_origin
from nvgbench.training.interrupt import StopSignal
from nvgbench.training.log import TrainLog
from nvgbench.training.loop import LoopSettings, TrainingLoop
from nvgbench.training.plan import phase_steps, planned_modules, resolve_config, tokenizer_differences
from nvgbench.training.record import append_train_record
from nvgbench.training.token_cache import build_cache, cache_fingerprint, encode, read_cache
from nvgbench.types import TokenBatch, Tokens

# Images for a family's `prepare`, which measures constants such as the scale of the canvas.
_PREPARE_IMAGES = 256
_ENCODE_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class _Job:
    """Shared by the phases of one call."""

    run: RunFolder
    config: RunConfig
    dataset: ImageDataset
    device: torch.device
    processes: Processes
    progress: Progress
    stop: StopSignal
    log: TrainLog
    initial: InitialWeights | None

    def report(self, text: str) -> None:
        self.progress({"message": text})


def train_run(
    config: RunConfig,
    folder: StrPath,
    *,
    device: torch.device,
    progress: Progress,
    tokenizer: StrPath | None = None,
    init: StrPath | None = None,
    phases: Sequence[Phase] = PHASES,
    group: str = "",
) -> RunFolder:
    """Train a run, or whatever of it is not trained yet, and append a record.

    A run that is killed at any moment and started again ends with the weights of an uninterrupted one: bit for bit on a CPU
    with the same number of threads, up to the rounding of non-deterministic kernels on CUDA.

    Args:
        config: the configuration; batches that are too large for a CPU are reduced (see `nvgbench.training.plan`).
        folder: the run's folder, created if needed.
        device: where to train; under torchrun, every process uses its own CUDA device instead.
        progress: called with ``phase, done, total``, at every line of the log also ``losses, lr, images_per_second``; or with
            ``message``.
        tokenizer: folder of a run whose tokenizer is used instead of training one.
        init: folder of a run whose weights the training starts from, see `nvgbench.training.initial`.
        phases: ``tokenizer``, ``generator`` or both.
        group: common name of the trainings of several seeds, if this is one of them.

    Raises:
        InputError: bad configuration, data or folder; a loss that is not finite.
        Interrupted: by SIGINT or SIGTERM; the same call resumes.
        OSError: something could not be written; the last checkpoint is intact.
    """
    folder = Path(folder)
    with join_processes(device) as (processes, device), StopSignal() as stop:
        config, warnings = resolve_config(config, device)
        progress = progress if processes.is_first else _silent
        for warning in warnings:
            progress({"message": warning})
        if (folder / "config.toml").exists():
            RunFolder(folder).check_same(config)  # before the data set is opened, which can take a while
        if not RunFolder(folder).is_finished("generator"):
            _check_training(config, phases)
        dataset = _open(config)
        told = _tell_remarks(dataset, progress, set())
        initial = None
        if init is not None:
            initial = InitialWeights(RunFolder(init), config, dataset.classes, phases, own_tokenizer=tokenizer is not None)
        check_origin(RunFolder(folder), initial, phases)
        run = _prepare_folder(config, folder, dataset, processes, group)
        tensorboard = folder / "tensorboard" if config.train.tensorboard and processes.is_first else None
        with contextlib.closing(TrainLog(run.log_path, tensorboard)) as log:
            job = _Job(
                run=run, config=config, dataset=dataset, device=device,
                processes=processes, progress=progress, stop=stop, log=log, initial=initial,
            )  # fmt: skip
            if tokenizer is not None:
                _copy_tokenizer(job, RunFolder(tokenizer))
            elif initial is not None and initial.phase == "generator" and run.state("tokenizer") is None:
                _copy_tokenizer(job, initial.source)
            if "tokenizer" in phases:
                _train_tokenizer(job)
                told = _tell_remarks(dataset, progress, told)
            if "generator" in phases:
                _train_generator(job)
                _tell_remarks(dataset, progress, told)
        if processes.is_first:
            if run.is_finished("generator"):
                run.token_cache_path.unlink(missing_ok=True)
            append_train_record(run, device, processes.world_size)
        processes.barrier()
    return run


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
    if "generator" not in phases:
        return
    get_family(config.family).check_training(config)


def _tell_remarks(dataset: ImageDataset, progress: Progress, told: set[str]) -> set[str]:
    """Print the remarks on the data that are not told yet; some are known only once the images have been read."""
    remarks = {str(remark) for remark in dataset.remarks}
    for remark in sorted(remarks - told):
        progress({"message": f"warning: {remark}"})
    return told | remarks


def _open(config: RunConfig) -> ImageDataset:
    data = config.data
    return open_dataset(
        data.source,
        image_size=data.image_size,
        split="train",
        augment=data.augment,
        limit=data.train_images,
        seed=data.seed,
        flip=data.flip,
        unconditional=data.classes == "none",
    )


def _prepare_folder(config: RunConfig, folder: Path, dataset: ImageDataset, processes: Processes, group: str) -> RunFolder:
    if processes.is_first:
        run = RunFolder.create(folder, config, group)
        for phase in PHASES:
            ckpt.clean(run.checkpoints(phase))
        run.note_dataset(
            DatasetInfo(name=dataset.name, classes=dataset.classes, images=len(dataset), fingerprint=dataset.fingerprint)
        )
    processes.barrier()
    return RunFolder(folder)


def _train_tokenizer(job: _Job) -> None:
    config, run = job.config, job.run
    if run.is_finished("tokenizer"):
        job.report("tokenizer: already finished")
        return
    steps = phase_steps(config, "tokenizer", len(job.dataset))
    tokenizer = seeded_tokenizer(config, config.train.seed).to(job.device)
    _start(job, "tokenizer", tokenizer)
    objective = _tokenizer_objective(config, tokenizer, steps)
    if objective is not None:
        _loop(job, "tokenizer", objective, steps).run(_image_batches(job, "tokenizer"))
        return
    job.report("tokenizer: used as it is, without training")
    if job.processes.is_first:
        state = ckpt.CheckpointState(phase="tokenizer", step=0, total_steps=0, final=True, source={"untrained": config.family})
        ckpt.save_checkpoint(run.checkpoints("tokenizer"), state, {ckpt.WEIGHTS: tokenizer.state_dict()})
    job.processes.barrier()


def _tokenizer_objective(config: RunConfig, tokenizer: nn.Module, steps: int) -> Objective | None:
    """The family's own, or the autoencoder's; None for a tokenizer that is not trained."""
    from nvgbench.autoencoder.objective import TokenizerObjective
    from nvgbench.autoencoder.tokenizer import ConvTokenizer

    own = get_family(config.family).tokenizer_objective(config, tokenizer, steps)
    if own is None and isinstance(tokenizer, ConvTokenizer):
        return TokenizerObjective(config, tokenizer, steps)
    return own


def _train_generator(job: _Job) -> None:
    config, run, device = job.config, job.run, job.device
    if run.is_finished("generator"):
        job.report("generator: already finished")
        return
    if not run.is_finished("tokenizer"):
        raise InputError(
            f"{run.path} has no finished tokenizer, which the generator needs; train it first, or "
            "use another run's (`tokenizer=`)"
        )
    tokenizer = run.load_tokenizer(device)
    generator = seeded_generator(config, tokenizer, len(job.dataset.classes), config.train.seed).to(device)
    family = get_family(config.family)
    if not _start(job, "generator", generator) and run.state("generator") is None:
        torch.manual_seed(mix_seed(config.train.seed, "prepare"))
        family.prepare(generator, tokenizer, _first_tokens(job, tokenizer))
    objective = family.objective(config, tokenizer, generator)
    if config.train.compile:
        _compile(generator)
    batches = _token_batches(job, tokenizer, keep_images=objective.needs_images)
    loop = _loop(job, "generator", objective, phase_steps(config, "generator", len(job.dataset)))
    loop.run(batches)


def _start(job: _Job, phase: Phase, module: nn.Module) -> bool:
    """Load the weights that the phase starts from, if any, before its first checkpoint; returns whether it did."""
    initial = job.initial
    if initial is None or initial.phase != phase or job.run.state(phase) is not None:
        return False
    initial.load(module, job.config.train.seed)
    job.report(initial.describe())
    if job.processes.is_first:
        job.run.note_origin(phase, initial.origin)
    return True


def _loop(job: _Job, phase: Phase, objective: Objective, steps: int) -> TrainingLoop:
    settings = LoopSettings(
        phase=phase,
        config=getattr(job.config.train, phase),
        total_steps=steps,
        seed=job.config.train.seed,
        precision=job.config.train.precision,
        log_every=job.config.train.log_every,
        checkpoint_every=job.config.train.checkpoint_every,
        folder=job.run.checkpoints(phase),
        log=job.log,
        device=job.device,
        progress=job.progress,
        processes=job.processes,
        stop=job.stop,
    )
    loop = TrainingLoop(objective, settings)
    for note in objective.notes:
        job.report(f"{phase}: {note}")
    if loop.step:
        job.report(f"{phase}: resumes at step {loop.step}")
    return loop


def _image_batches(job: _Job, phase: Phase) -> Callable[[int], Iterator]:
    return lambda start: training_batches(
        job.dataset,
        getattr(job.config.train, phase).batch_size,
        seed=mix_seed(job.config.train.seed, phase, "order"),
        start_step=start,
        rank=job.processes.rank,
        world_size=job.processes.world_size,
        workers=job.config.data.workers,
    )


def _token_batches(job: _Job, tokenizer: nn.Module, keep_images: bool) -> Callable[[int], Iterator[TokenBatch]]:
    """Batches of tokens: from the cache if the configuration wants one, else tokenized on the fly."""
    if not job.config.train.cache_tokens:
        images = _image_batches(job, "generator")
        return lambda start: (encode(tokenizer, batch, job.device, keep_images) for batch in images(start))
    if keep_images:
        raise InputError("this training needs the images, and the cache holds only tokens; use `train.cache_tokens=false`")
    data = job.config.data
    fingerprint = cache_fingerprint(
        job.run.tokenizer_fingerprint(), job.dataset.fingerprint, "flip" if data.flip else data.augment
    )
    path = job.run.token_cache_path
    if job.processes.is_first and read_cache(path, fingerprint) is None:
        build_cache(
            path, fingerprint, tokenizer, job.dataset, job.device,
            batch_size=_ENCODE_BATCH, progress=job.progress, stop=job.stop,
        )  # fmt: skip
    job.processes.barrier()
    cache = read_cache(path, fingerprint)
    assert cache is not None, "the cache has just been written"
    return lambda start: cache.batches(
        job.config.train.generator.batch_size,
        seed=mix_seed(job.config.train.seed, "generator", "order"),
        start_step=start,
        rank=job.processes.rank,
        world_size=job.processes.world_size,
    )


def _first_tokens(job: _Job, tokenizer: nn.Module) -> Tokens:
    """The first images as tokens; the same ones for every process."""
    batches = sequential_batches(job.dataset, _ENCODE_BATCH, limit=_PREPARE_IMAGES)
    return join_tokens([encode(tokenizer, batch, job.device).tokens for batch in batches])


def _copy_tokenizer(job: _Job, source: RunFolder) -> None:
    """Copy the weights of another run's finished tokenizer."""
    if not source.is_finished("tokenizer"):
        raise InputError(f"`tokenizer={source.path}`: that run has no finished tokenizer")
    differing = tokenizer_differences(job.config, source.config)
    if differing:
        raise InputError(f"`tokenizer={source.path}` does not fit: {', '.join(differing)} differ; set them to the same values")
    found = ckpt.latest_checkpoint(source.checkpoints("tokenizer"))
    assert found is not None
    file = ckpt.model_file(found)
    state = ckpt.read_state(found)
    origin = {"run": source.name, "config_hash": source.hash, "weights": state.files[file]}
    origin |= {key: state.source[key] for key in ("file", "sha256") if key in state.source}
    have = job.run.state("tokenizer")
    if have is not None:
        if have.source != origin:
            raise InputError(f"{job.run.path} already has another tokenizer; leave `tokenizer=` out, or use another `name=`")
        return
    job.report(f"tokenizer: copied from {source.path}")
    if job.processes.is_first:
        copied = dataclasses.replace(state, source=origin, images=0, seconds=0.0, means={}, notes=())
        ckpt.save_checkpoint(job.run.checkpoints("tokenizer"), copied, {ckpt.WEIGHTS: ckpt.load_tensors(found, file)})
    job.processes.barrier()


def _compile(generator: nn.Module) -> None:
    """Compile the repeated blocks in place: families call other methods of their generators than ``forward``, and identical
    blocks are compiled once."""
    blocks = [block for module in generator.modules() if isinstance(module, nn.ModuleList) for block in module]
    for block in blocks or [generator]:
        block.compile()


def _silent(event: object) -> None:
    """Progress of all processes but the first."""
