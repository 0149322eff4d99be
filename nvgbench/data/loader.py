"""Batches of images. A batch depends on (seed, step, rank) alone, so a resumed run repeats an uninterrupted one.

Shape letters: B batch, H and W pixels.
"""

from __future__ import annotations

import functools
import itertools
import signal
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from nvgbench.data.dataset import ImageDataset
from nvgbench.data.images import to_float
from nvgbench.errors import InputError
from nvgbench.types import ImageBatch

_VIEWS = 1  # separates the random streams of augmentations from those of permutations


def training_batches(
    dataset: ImageDataset,
    batch_size: int,
    *,
    seed: int,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    workers: int = 0,
) -> Iterator[ImageBatch]:
    """Endless shuffled batches, starting with that of ``start_step``.

    Each epoch is one permutation of the images, drawn from (seed, epoch); a batch may cross the end of an epoch, so no image is
    dropped. Concatenated over the ranks, the batches of a step are the batch of a single process.

    Args:
        batch_size: images per step over all processes; each rank gets ``batch_size / world_size``.
        workers: processes that decode ahead; a data set held in memory uses none.

    Raises:
        InputError: the data set is empty or ``batch_size`` cannot be divided by ``world_size``; an image cannot be read.
    """
    if not len(dataset):
        raise InputError(f"{dataset.name} has no images; training needs at least one")
    if batch_size < 1 or batch_size % world_size:
        raise InputError(
            f"batch size {batch_size} cannot be divided among {world_size} processes; choose a multiple of {world_size}"
        )
    share = batch_size // world_size
    steps = _Steps(dataset, batch_size, seed, range(rank * share, (rank + 1) * share))
    if workers > 0 and not dataset.in_memory:
        loader = DataLoader(
            _Guarded(steps),
            batch_size=None,
            sampler=_CountFrom(start_step),
            num_workers=workers,
            worker_init_fn=_leave_signals_to_the_training,
        )
        return _unguarded(loader)
    return map(steps.__getitem__, itertools.count(start_step))


def sequential_batches(dataset: ImageDataset, batch_size: int, *, limit: int | None = None) -> Iterator[ImageBatch]:
    """All images (or the first ``limit``) once, in order and without augmentation; the last batch may be smaller."""
    count = len(dataset) if limit is None else min(limit, len(dataset))
    for start in range(0, count, batch_size):
        indices = np.arange(start, min(start + batch_size, count))
        yield _batch(dataset, indices, None)


def all_views(dataset: ImageDataset, batch_size: int) -> Iterator[ImageBatch]:
    """All images once, in order, the augmented versions of each one after the other; at most about ``batch_size`` per batch."""
    size = max(1, batch_size // dataset.views)
    for start in range(0, len(dataset), size):
        indices = np.arange(start, min(start + size, len(dataset)))
        labels = torch.from_numpy(dataset.labels[indices]).repeat_interleave(dataset.views)
        yield ImageBatch(to_float(dataset.all_views(indices).flatten(0, 1)), labels)


def step_indices(count: int, batch_size: int, *, seed: int, step: int) -> np.ndarray:
    """int64 ``[batch_size]``: indices of the images of training step ``step``, over all processes."""
    epochs, places = np.divmod(step * batch_size + np.arange(batch_size), count)
    indices = np.empty_like(places)
    for epoch in np.unique(epochs).tolist():
        chosen = epochs == epoch
        indices[chosen] = _permutation(count, seed % 2**64, epoch)[places[chosen]]
    return indices


def step_rngs(seed: int, step: int, positions: Sequence[int]) -> list[np.random.Generator]:
    """Generators for the augmentation of images at ``positions`` of the batch of ``step``."""
    return [np.random.default_rng([seed % 2**64, _VIEWS, step, position]) for position in positions]


class _Steps(Dataset):
    """Training step -> batch, as a map-style data set, so that worker processes keep the order of steps."""

    def __init__(self, dataset: ImageDataset, batch_size: int, seed: int, positions: range) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed % 2**64  # seed sequences are not negative
        self.positions = np.array(positions)

    def __getitem__(self, step: int) -> ImageBatch:
        indices = step_indices(len(self.dataset), self.batch_size, seed=self.seed, step=step)[self.positions]
        rngs = step_rngs(self.seed, step, self.positions.tolist()) if self.dataset.views != 1 else None
        return _batch(self.dataset, indices, rngs)


class _Guarded(Dataset):
    """Returns an InputError as a value: raised in a worker, it would arrive wrapped in the worker's traceback."""

    def __init__(self, steps: _Steps) -> None:
        self.steps = steps

    def __getitem__(self, step: int) -> ImageBatch | InputError:
        try:
            return self.steps[step]
        except InputError as error:
            return error


def _unguarded(loader: DataLoader) -> Iterator[ImageBatch]:
    try:
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch
    except RuntimeError as error:  # of a worker that ended without a message
        if "DataLoader worker" not in str(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"a data worker has ended ({reason}); resume with fewer of them: `data.workers=0`") from error


def _leave_signals_to_the_training(worker: int) -> None:
    """A signal to the whole process group asks the training to stop, which still needs its workers."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)


class _CountFrom:
    """An endless sampler of steps."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start)


@functools.lru_cache(maxsize=4)
def _permutation(count: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, 0, epoch]).permutation(count)


def _batch(dataset: ImageDataset, indices: np.ndarray, rngs: list[np.random.Generator] | None) -> ImageBatch:
    return ImageBatch(to_float(dataset.images(indices, rngs)), torch.from_numpy(dataset.labels[indices]))
