"""Opening a source of images by the name used in configurations and on the command line."""

from __future__ import annotations

from pathlib import Path

from nvgbench.data.catalog import SOURCES
from nvgbench.data.dataset import Augment, ImageDataset, Sample, Split
from nvgbench.errors import InputError, did_you_mean

__all__ = ["ImageDataset", "Sample", "open_dataset"]


def open_dataset(
    source: str,
    *,
    image_size: int,
    split: Split,
    augment: Augment = "none",
    limit: int | None = None,
    seed: int = 0,
    root: Path | None = None,
) -> ImageDataset:
    """Open ``shapes``, ``cifar10[:PATH]``, ``cifar100[:PATH]``, ``imagefolder:PATH``, ``npz:PATH`` or ``imagenet[:PATH]``.

    Args:
        image_size: side of the square images, pixels.
        split: training images or held-out ones; no image is in both.
        augment: of training images only; held-out images are always cut from the centre.
        limit: how many images at most, spread evenly over the classes; for ``shapes``, how many to draw.
        seed: of procedural data.
        root: where downloads are kept, ``~/.cache/nvgbench`` where not given.

    Raises:
        InputError: unknown source, missing or unreadable files; the message names the way out.
    """
    name, colon, location = source.partition(":")
    if name not in SOURCES:
        raise InputError(f"no data source {source!r}{_hint(source, name)}; known: {', '.join(SOURCES)}")
    if image_size < 16:
        raise InputError(f"image size {image_size} is too small; 16 pixels and more are supported")
    if limit is not None and limit < 1:
        raise InputError(f"limit {limit} leaves no images; give 1 or more, or leave it out")
    if split == "eval":
        augment = "none"
    if name == "shapes":
        from nvgbench.data.shapes import DEFAULT_EVAL, DEFAULT_TRAIN, ShapesDataset

        if colon:
            raise InputError(f"{source!r}: 'shapes' is drawn and takes no path; for images of your own use imagefolder:PATH")
        count = limit or (DEFAULT_TRAIN if split == "train" else DEFAULT_EVAL)
        return ShapesDataset(image_size=image_size, split=split, count=count, seed=seed, augment=augment)
    if name in ("cifar10", "cifar100"):
        from nvgbench.data.arrays import open_cifar

        return open_cifar(name, location, image_size=image_size, split=split, augment=augment, limit=limit, root=root)
    if name == "npz":
        from nvgbench.data.arrays import open_npz

        return open_npz(location, image_size=image_size, split=split, augment=augment, limit=limit)
    from nvgbench.data.image_folder import open_folder, open_imagenet

    open_files = open_imagenet if name == "imagenet" else open_folder
    return open_files(location, image_size=image_size, split=split, augment=augment, limit=limit)


def _hint(source: str, name: str) -> str:
    """What was probably meant: a path given bare, or a misspelt name."""
    if Path(source).is_dir():
        return f" (did you mean 'imagefolder:{source}'?)"
    if Path(source).is_file():
        return f" (did you mean 'npz:{source}'?)"
    return did_you_mean(name, SOURCES)
