"""A sampling job: n images, each with its own seed, written batch by batch, so that it can be interrupted and resumed.

Image i of a job has label ``classes[i mod len(classes)]`` (so classes are interleaved) and a seed made from (job seed, i).
It is the same image for every batch size, up to the rounding of kernels that depend on the batch shape.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nvgbench.errors import InputError
from nvgbench.files import StrPath, whole_file
from nvgbench.interfaces import ImageGenerator
from nvgbench.types import ModelSpec, SampleRequest, Share

PROVENANCE = "provenance"
"""Name of the array in an npz of samples that says what they come from."""
_ORIGIN = ("run", "step", "total_steps", "finished", "config_hash", "weights", "weights_kind", "tokenizer_weights")
_DESCRIPTIVE = ("total_steps", "weights_kind")
"""Entries of a model's provenance that say nothing about its images that the others do not."""
_PART = re.compile(r"images-(\d{9})-(\d{9})\.npy")


def image_seed(seed: int, index: int) -> int:
    """The seed of image ``index`` in a job: both numbers concatenated in 62 bits.

    Raises:
        InputError: seed outside 0 … 2^30 - 1.
    """
    if not 0 <= seed < 2**30:
        raise InputError(f"sampling seed {seed} is out of range; use 0 to {2**30 - 1}")
    return (seed << 32) + index


def job_labels(start: int, stop: int, classes: Sequence[int]) -> np.ndarray:
    """int64 labels of images ``start`` … ``stop - 1``."""
    return labels_of(range(start, stop), classes)


def labels_of(indices: Sequence[int], classes: Sequence[int]) -> np.ndarray:
    """int64 labels of some images of a job."""
    return np.asarray(classes, dtype=np.int64)[np.asarray(indices, dtype=np.int64) % len(classes)]


def sample_job(
    generator: ImageGenerator,
    n: int,
    folder: StrPath,
    *,
    batch_size: int = 64,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    classes: Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
    share: Share | None = None,
) -> Path:
    """Draw the first ``n`` images of a job and write them as one npz; several processes each draw a part.

    Args:
        generator: what to sample from.
        n: number of images.
        folder: folder of the jobs; a sub-folder named after model, seed, settings and classes holds the finished batches, so
            that another call, also for more images, resumes where the last one stopped.
        batch_size: images per call of the generator.
        seed: job seed.
        settings: overrides of the model's sampling settings.
        classes: the labels, used in turn; the number of classes stands for "no class". All classes of the model if not given,
            or "no class" if it has none.
        progress: called with (images done, n) after each batch.
        share: this process's part; all of it if not given. All processes see the same ``folder``.

    Returns:
        Path of the npz, written by the first process: ``arr_0`` uint8 ``[n, H, W, 3]``, ``arr_1`` int64 labels ``[n]``, absent
        if no image has a class, and ``provenance``, a text (`sample_origin` as JSON).

    Raises:
        InputError: n < 1, a class out of range, unknown settings.
        OSError: the folder cannot be written to.
    """
    spec = generator.spec
    classes = check_classes(classes, spec)
    if n < 1:
        raise InputError(f"{n} images were asked for; ask for at least 1")
    share = share or Share()
    parts = Path(folder) / job_key(spec, seed, settings or {}, classes)
    if progress is not None:
        progress(_count(parts, n), n)
    if share.is_first:
        for left in parts.glob(".*.np[yz]"):  # by a process killed while writing; as large as the images
            left.unlink(missing_ok=True)
    missing = list(_missing(parts, n, batch_size))
    share.wait()  # until all processes have listed the same gaps
    for start, stop in missing[share.rank :: share.count]:
        images_B3HW = draw(generator, range(start, stop), seed=seed, settings=settings or {}, classes=classes)
        with whole_file(parts / f"images-{start:09d}-{stop:09d}.npy") as temporary, temporary.open("wb") as handle:
            np.save(handle, images_B3HW.permute(0, 2, 3, 1).contiguous().numpy())
        if progress is not None:
            progress(_count(parts, n), n)
    share.wait()
    target = parts / f"samples-{n}.npz"
    if share.is_first and not target.exists():
        labels = None if set(classes) == {spec.num_classes} else job_labels(0, n, classes)
        origin = sample_origin(spec, seed, settings or {})
        write_npz(target, _images(parts, n), n, spec.image_size, labels, origin)
    share.wait()
    return target


def draw(
    generator: ImageGenerator, indices: Sequence[int], *, seed: int, settings: Mapping[str, Any], classes: Sequence[int]
) -> torch.Tensor:
    """Some images of a job in one batch, uint8 ``[B, 3, H, W]`` on the CPU.

    Raises:
        InputError: unknown settings.
    """
    request = SampleRequest(
        labels_B=torch.from_numpy(labels_of(indices, classes)),
        seeds_B=torch.tensor([image_seed(seed, index) for index in indices]),
        settings=settings,
    )
    return generator.generate(request).images_B3HW.cpu()


def check_classes(classes: Sequence[int] | None, spec: ModelSpec) -> tuple[int, ...]:
    """``classes`` if given, else all classes of the model, or "no class" (their number) if it has none.

    Raises:
        InputError: a class out of range, or no class.
    """
    if classes is None:
        return tuple(range(spec.num_classes)) or (0,)
    wrong = [label for label in classes if not 0 <= label <= spec.num_classes]
    if wrong or not classes:
        raise InputError(
            f"class {wrong[0] if wrong else classes!r} is out of range: {spec.name} has classes 0 to {spec.num_classes - 1}"
        )
    return tuple(classes)


def job_key(spec: ModelSpec, seed: int, settings: Mapping[str, Any], classes: Sequence[int]) -> str:
    """A folder name that depends on the weights, the seed, the settings and the classes, not on n or the batch size."""
    weights = {key: value for key, value in spec.provenance.items() if key not in _DESCRIPTIVE}
    content = [spec.name, spec.image_size, weights, seed, dict(settings), list(classes)]
    if seed:
        content.append("streams 2")  # a new key: seeds above 0 once gave the samples of seed 0
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]


def finished_ranges(parts: Path, n: int) -> list[tuple[int, int]]:
    """Finished ranges below ``n``, sorted and without overlap."""
    found = []
    for path in parts.glob("images-*.npy"):
        match = _PART.fullmatch(path.name)
        if match:
            found.append((int(match[1]), int(match[2])))
    ranges: list[tuple[int, int]] = []
    covered = 0
    for start, stop in sorted(found):
        start, stop = max(start, covered), min(stop, n)
        if start < stop:
            ranges.append((start, stop))
            covered = stop
    return ranges


def _count(parts: Path, n: int) -> int:
    """Number of finished images, from any process."""
    return sum(stop - start for start, stop in finished_ranges(parts, n))


def _missing(parts: Path, n: int, batch_size: int) -> Iterator[tuple[int, int]]:
    """Ranges of at most ``batch_size`` images that are not finished."""
    position = 0
    for start, stop in [*finished_ranges(parts, n), (n, n)]:
        while position < start:
            yield position, min(position + batch_size, start)
            position = min(position + batch_size, start)
        position = max(position, stop)


def _images(parts: Path, n: int) -> Iterator[np.ndarray]:
    """The first ``n`` images in order, a part at a time (uint8 ``[b, H, W, 3]``)."""
    by_start = sorted((path.name, path) for path in parts.glob("images-*.npy") if _PART.fullmatch(path.name))
    position = 0
    for name, path in by_start:
        match = _PART.fullmatch(name)
        assert match is not None
        start, stop = int(match[1]), min(int(match[2]), n)
        if stop > position:
            yield _part(path, int(match[2]) - start)[position - start : stop - start]
            position = stop


def _part(path: Path, count: int) -> np.ndarray:
    try:
        images = np.load(path)
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) != count:
            raise ValueError(f"{images.dtype} of shape {images.shape}")
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is damaged ({error}); remove it, and the same call draws its {count} images again") from None
    return images


def sample_origin(spec: ModelSpec, seed: int, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the samples come from: ``model`` (name, family, run, step, SHA-256 of the weights …), ``seed`` and ``settings``."""
    known = {key: spec.provenance[key] for key in _ORIGIN if key in spec.provenance}
    return {"model": {"name": spec.name, "family": spec.family, **known}, "seed": seed, "settings": dict(settings)}


def write_npz(
    path: StrPath,
    images: Iterator[np.ndarray],
    n: int,
    image_size: int,
    labels: np.ndarray | None,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Write ``arr_0`` (images) and, if given, ``arr_1`` (labels) and ``provenance`` (the origin as JSON) atomically.

    The images are not held in memory.
    """
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open("arr_0.npy", "w", force_zip64=True) as handle:
            header = {"descr": "|u1", "fortran_order": False, "shape": (n, image_size, image_size, 3)}
            np.lib.format.write_array_header_1_0(handle, header)
            for block in images:
                handle.write(np.ascontiguousarray(block).reshape(-1).data)
        if labels is not None:
            with archive.open("arr_1.npy", "w") as handle:
                np.lib.format.write_array(handle, labels)
        if origin is not None:
            with archive.open(f"{PROVENANCE}.npy", "w") as handle:
                np.lib.format.write_array(handle, np.array(json.dumps(origin, default=str)))
