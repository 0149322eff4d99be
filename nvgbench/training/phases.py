"""The two phases of a training: tokenizer, then generator on its tokens."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nvgbench.config.schema import RunConfig
from nvgbench.data.dataset import ImageDataset
from nvgbench.data.loader import sequential_batches, training_batches
from nvgbench.device import compilation_seconds
from nvgbench.errors import InputError
from nvgbench.interfaces import Objective, Progress
from nvgbench.registry import get_family
from nvgbench.runs import checkpoint as ckpt
from nvgbench.runs.folder import Phase, RunFolder
from nvgbench.runs.models import seeded_generator, seeded_tokenizer
from nvgbench.runs.seeding import mix_seed
from nvgbench.training.acceleration import accelerate
from nvgbench.training.batches import AnyBatch, join_tokens, to_device
from nvgbench.training.distributed import Processes
from nvgbench.training.initial import InitialWeights
from nvgbench.training.interrupt import StopSignal
from nvgbench.training.log import TrainLog
from nvgbench.training.loop import LoopSettings, TrainingLoop
from nvgbench.training.plan import phase_steps
from nvgbench.training.token_cache import build_cache, cache_fingerprint, encode, read_cache
from nvgbench.training.validation import Validation, held_out_batches, held_out_images, reconstructions, samples
from nvgbench.types import ImageBatch, TokenBatch, Tokens

# Images for a family's `prepare`, which measures constants such as the scale of the canvas.
_PREPARE_IMAGES = 256
_ENCODE_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the phases of one call share."""

    run: RunFolder
    config: RunConfig
    dataset: ImageDataset
    device: torch.device
    processes: Processes
    progress: Progress
    stop: StopSignal
    log: TrainLog
    initial: InitialWeights | None
    teacher: RunFolder | None = None

    def report(self, text: str) -> None:
        self.progress({"message": text})


def train_tokenizer(job: Job) -> None:
    """Train the tokenizer, or whatever of it is not trained yet."""
    config, run = job.config, job.run
    if run.is_finished("tokenizer"):
        job.report("tokenizer: already finished")
        return
    steps = phase_steps(config, "tokenizer", len(job.dataset))
    tokenizer = seeded_tokenizer(config, config.train.seed).to(job.device)
    _start(job, "tokenizer", tokenizer)
    objective = _tokenizer_objective(config, tokenizer, steps)
    if objective is not None:
        held_out = _held_out(job, "tokenizer")
        picture = functools.partial(reconstructions, tokenizer, held_out[0].images_B3HW, job.device) if held_out else None
        validation = _validation(job, "tokenizer", held_out, picture)
        _loop(job, "tokenizer", objective, steps, validation).run(_image_batches(job, "tokenizer"))
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


def train_generator(job: Job) -> None:
    """Train the generator, or whatever of it is not trained yet."""
    config, run, device = job.config, job.run, job.device
    if run.is_finished("generator"):
        job.report("generator: already finished")
        return
    tokenizer = run.load_tokenizer(device)
    generator = seeded_generator(config, tokenizer, len(job.dataset.classes), config.train.seed).to(device)
    family = get_family(config.family)
    if not _start(job, "generator", generator) and run.state("generator") is None:
        torch.manual_seed(mix_seed(config.train.seed, "prepare"))
        family.prepare(generator, tokenizer, _first_tokens(job, tokenizer))
    objective = family.objective(config, tokenizer, generator)
    family.teach(config, objective, None if job.teacher is None else job.teacher.load_generator(device))
    for note in accelerate(generator, config.train, device):
        job.report(f"generator: {note}")
    batches = _token_batches(job, tokenizer, keep_images=objective.needs_images)
    held_out = [encode(tokenizer, batch, device, objective.needs_images) for batch in _held_out(job, "generator")]
    picture = functools.partial(samples, config, tokenizer, generator, len(job.dataset.classes))
    validation = _validation(job, "generator", [to_device(batch, torch.device("cpu")) for batch in held_out], picture)
    loop = _loop(job, "generator", objective, phase_steps(config, "generator", len(job.dataset)), validation)
    loop.run(batches)
    if seconds := compilation_seconds():
        job.report(f"generator: compilation took {seconds:.1f} s")


def _start(job: Job, phase: Phase, module: nn.Module) -> bool:
    """Load the weights that the phase starts from, if any, before its first checkpoint; returns whether it did."""
    initial = job.initial
    if initial is None or initial.phase != phase or job.run.state(phase) is not None:
        return False
    initial.load(module, job.config.train.seed)
    job.report(initial.describe())
    if phase == "generator" and job.run.tokenizer_fingerprint() != initial.source.tokenizer_fingerprint():
        job.report("warning: generator: these weights were trained with another tokenizer than the run has")
    if job.processes.is_first:
        job.run.note_origin(phase, initial.origin)
    return True


def _held_out(job: Job, phase: Phase) -> list[ImageBatch]:
    """Held-out batches, if this process validates: the first one, or all together if the weights are sharded."""
    if job.config.train.validate_every is None or not (job.processes.is_first or _is_sharded(job)):
        return []
    own = getattr(job.config.train, phase)
    share = own.batch_size // job.processes.world_size
    return held_out_batches(held_out_images(job.config), min(own.micro_batch_size or share, share))


def _is_sharded(job: Job) -> bool:
    return job.config.train.parallel == "fsdp" and job.processes.world_size > 1


def _validation(job: Job, phase: Phase, batches: Sequence[AnyBatch], picture: Callable[[], Tensor] | None) -> Validation | None:
    every = job.config.train.validate_every
    if every is None or picture is None or not batches:
        return None
    return Validation(
        every=every,
        phase=phase,
        batches=batches,
        picture=None if _is_sharded(job) else picture,
        folder=job.run.path / "pictures",
        show=job.log.picture,
        seed=job.config.train.seed,
        device=job.device,
        precision=job.config.train.precision,
    )


def _loop(job: Job, phase: Phase, objective: Objective, steps: int, validation: Validation | None) -> TrainingLoop:
    cost = get_family(job.config.family).cost(job.config, len(job.dataset.classes))
    settings = LoopSettings(
        phase=phase,
        config=getattr(job.config.train, phase),
        total_steps=steps,
        seed=job.config.train.seed,
        precision=job.config.train.precision,
        flops=cost.training_flops if phase == "generator" else None,
        log_every=job.config.train.log_every,
        checkpoint_every=job.config.train.checkpoint_every,
        keep=ckpt.Keep(job.config.train.keep_last, job.config.train.keep_best),
        keep_optimizer=job.config.train.keep_optimizer,
        folder=job.run.checkpoints(phase),
        log=job.log,
        device=job.device,
        progress=job.progress,
        validation=validation,
        processes=job.processes,
        parallel=job.config.train.parallel,
        stop=job.stop,
    )
    loop = TrainingLoop(objective, settings)
    for note in objective.notes:
        job.report(f"{phase}: {note}")
    if loop.step:
        job.report(f"{phase}: resumes at step {loop.step}")
    return loop


def _image_batches(job: Job, phase: Phase) -> Callable[[int], Iterator]:
    return lambda start: training_batches(
        job.dataset,
        getattr(job.config.train, phase).batch_size,
        seed=mix_seed(job.config.train.seed, phase, "order"),
        start_step=start,
        rank=job.processes.rank,
        world_size=job.processes.world_size,
        workers=job.config.data.workers,
    )


def _token_batches(job: Job, tokenizer: nn.Module, keep_images: bool) -> Callable[[int], Iterator[TokenBatch]]:
    """Batches of tokens: from the cache if the configuration wants one, else tokenized on the fly."""
    if not job.config.train.cache_tokens:
        images = _image_batches(job, "generator")
        return lambda start: (encode(tokenizer, batch, job.device, keep_images) for batch in images(start))
    if keep_images:
        raise InputError(
            "this training needs the images, and the cache holds only tokens; use `continue_with=train.cache_tokens=false`"
        )
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


def _first_tokens(job: Job, tokenizer: nn.Module) -> Tokens:
    """The first images as tokens; the same ones for every process."""
    batches = sequential_batches(job.dataset, _ENCODE_BATCH, limit=_PREPARE_IMAGES)
    return join_tokens([encode(tokenizer, batch, job.device).tokens for batch in batches])


def copy_tokenizer(job: Job, source: RunFolder) -> None:
    """Copy the weights of another run's finished tokenizer, which has been checked to fit."""
    found = source.checkpoint("tokenizer")
    file = ckpt.model_file(found)
    state = ckpt.read_state(found)
    origin = {
        "run": source.name,
        "config_hash": source.hash,
        "weights": state.digest(file),
        "images": state.source.get("images", state.images),
    }
    origin |= {key: state.source[key] for key in ("file", "sha256") if key in state.source}
    have = job.run.state("tokenizer")
    if have is not None:
        if have.source.get("weights") != origin["weights"]:
            raise InputError(f"{job.run.path} already has another tokenizer; leave `tokenizer=` out, or use another `name=`")
        return
    job.report(f"tokenizer: copied from {source.path}")
    if job.processes.is_first:
        copied = dataclasses.replace(state, source=origin, images=0, seconds=0.0, means={}, notes=())
        ckpt.save_checkpoint(job.run.checkpoints("tokenizer"), copied, {ckpt.WEIGHTS: ckpt.load_tensors(found, file)})
    job.processes.barrier()
