"""Opening a data source by the name used in configurations and on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nvgbench.config.schema import DataConfig
from nvgbench.data.catalog import SOURCES, is_source
from nvgbench.data.dataset import Augment, DataRequest, ImageDataset, Sample, Split
from nvgbench.data.remarks import Remark
from nvgbench.errors import InputError
from nvgbench.files import StrPath

__all__ = ["ImageDataset", "Sample", "open_dataset"]


def open_dataset(
    source: str,
    *,
    image_size: int,
    split: Split,
    augment: Augment = "none",
    limit: int | None = None,
    seed: int = 0,
    root: StrPath | None = None,
    flip: bool = False,
    unconditional: bool = False,
) -> ImageDataset:
    """Open ``shapes``, ``cifar10[:PATH]``, ``cifar100[:PATH]``, ``imagefolder:PATH``, ``npz:PATH`` or ``imagenet[:PATH]``.

    Other names come from installed packages, see `nvgbench.data.catalog`.

    Args:
        image_size: side of the square images, pixels.
        split: training images or held-out ones; no image is in both.
        augment: of training images only; held-out images are always cut from the centre.
        limit: how many images at most, spread evenly over the classes; for ``shapes``, how many to draw.
        seed: of procedural data.
        root: folder for downloads; the user's cache if not given.
        flip: mirror every other training image at random.
        unconditional: ignore the classes.

    Raises:
        InputError: unknown source, missing or unreadable files; the message says how to fix it.
    """
    name, _, location = source.partition(":")
    if not is_source(source) and (hint := _path_hint(source)):
        raise InputError(f"no data source {source!r}{hint}; known: {', '.join(SOURCES.names())}")
    info = SOURCES.get(name)
    if image_size < 16:
        raise InputError(f"image size {image_size} is too small; 16 pixels and more are supported")
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit} leaves no images; give 1 or more, or leave it out")
    request = DataRequest(
        image_size=image_size,
        split=split,
        augment=augment if split == "train" else "none",
        limit=limit,
        seed=seed,
        root=root,
    )
    dataset = info.load()(location, request)
    dataset.flip = flip and split == "train"
    if unconditional:
        dataset.classes, dataset.labels = (), np.zeros_like(dataset.labels)
    if not location and Path(name).exists():
        text = (
            f"{name!r} is the data source, not what lies in ./{name}; for that write 'imagefolder:{name}', or './{name}' to "
            "score it"
        )
        dataset.opening_remarks += (Remark("source", text),)
    return dataset


def _path_hint(source: str) -> str:
    """What was probably meant by a path without a source's name."""
    if Path(source).is_dir():
        return f" (did you mean 'imagefolder:{source}'?)"
    if Path(source).is_file():
        return f" (did you mean 'npz:{source}'?)"
    return ""


def training_set(data: DataConfig) -> ImageDataset:
    """The training images of a run with these data."""
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
