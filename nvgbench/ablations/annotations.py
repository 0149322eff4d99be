"""Images with segmentations: the exact masks of ``shapes``, or a folder laid out like BSDS500 or ADE20K.

Shape letters: H and W pixels of the square that a model sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nvgbench.ablations.study import Context
from nvgbench.data.shapes import ShapesDataset
from nvgbench.data.source import open_dataset
from nvgbench.errors import InputError
from nvgbench.runs.folder import RunFolder

Labels = NDArray[np.int64]
BSDS = "bsds:"
ADE20K = "ade20k:"


@dataclass(frozen=True)
class Annotated:
    """An image and how people (or its masks) divide it.

    Attributes:
        image_HW3: uint8.
        levels: kind of annotation -> one map ``[H, W]`` per annotator.
    """

    image_HW3: NDArray[np.uint8]
    levels: Mapping[str, tuple[Labels, ...]]


def annotated_images(run: RunFolder, context: Context) -> tuple[int, Iterator[Annotated]]:
    """How many annotated images there are of the run's size, and the images.

    ``bsds:FOLDER`` is a folder with ``images/SPLIT/*.jpg`` and ``groundTruth/SPLIT/*.mat``, each with the maps of several
    annotators. ``ade20k:FOLDER`` is one with ``images/SPLIT/*.jpg`` and ``annotations/SPLIT/*.png``, like ADE20K's scene
    parsing data; every further folder ``annotations…`` has the maps of another annotator. The central square is scaled to the
    run's size, maps by their nearest pixel. Everything else is a data source, which must be ``shapes``: its levels are
    ``semantic`` (object or ground), ``object`` and ``part``.

    Raises:
        InputError: a source without annotations, or a folder of another layout.
    """
    data = run.config.data
    source = context.data or data.source
    if source.startswith(BSDS):
        files = _bsds_files(Path(source.removeprefix(BSDS)))[: context.images]
        return len(files), (_annotated(image, _bsds_maps(truth), data.image_size) for image, truth in files)
    if source.startswith(ADE20K):
        found = _ade20k_files(Path(source.removeprefix(ADE20K)))[: context.images]
        return len(found), (_annotated(image, [_png_map(map) for map in maps], data.image_size) for image, maps in found)
    dataset = open_dataset(source, image_size=data.image_size, split="eval", limit=context.images, seed=data.seed)
    if not isinstance(dataset, ShapesDataset):
        raise InputError(f"{source} has no segmentations; use `data=shapes`, `data=bsds:FOLDER` or `data=ade20k:FOLDER`")
    return len(dataset), (_of_shapes(dataset, index) for index in range(len(dataset)))


def _of_shapes(dataset: ShapesDataset, index: int) -> Annotated:
    masks = dataset.masks(index)
    levels = {level: (masks[level].astype(np.int64),) for level in ("semantic", "object", "part")}
    return Annotated(dataset.read(index), levels)


def _bsds_files(folder: Path) -> list[tuple[Path, Path]]:
    images = sorted(folder.glob("images/*/*.jpg"))
    pairs = [(image, folder / "groundTruth" / image.parent.name / f"{image.stem}.mat") for image in images]
    found = [pair for pair in pairs if pair[1].is_file()]
    if not found:
        raise InputError(f"{folder} has no images/SPLIT/NAME.jpg with a groundTruth/SPLIT/NAME.mat; expected BSDS500's layout")
    return found


def _ade20k_files(folder: Path) -> list[tuple[Path, list[Path]]]:
    """Every image with the maps of its annotators."""
    annotators = sorted(one for one in folder.glob("annotations*") if one.is_dir())
    found = []
    for image in sorted(path for path in folder.glob("images/*/*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")):
        maps = [one / image.parent.name / f"{image.stem}.png" for one in annotators]
        if maps := [one for one in maps if one.is_file()]:
            found.append((image, maps))
    if not found:
        raise InputError(f"{folder} has no images/SPLIT/NAME.jpg with an annotations/SPLIT/NAME.png; expected ADE20K's layout")
    return found


def _bsds_maps(truth: Path) -> list[Labels]:
    from scipy.io import loadmat

    try:
        return [np.asarray(cell["Segmentation"][0, 0], np.int64) for cell in loadmat(truth)["groundTruth"][0]]
    except Exception as error:  # scipy's reader fails in many ways on other files
        raise InputError(f"{truth} is no ground truth of BSDS500 ({' '.join(str(error).split())})") from None


def _png_map(path: Path) -> Labels:
    """Labels from the values of a PNG; those of a colour picture from its three channels, as in ADE20K's full annotations."""
    try:
        with Image.open(path) as picture:
            values = np.asarray(picture.convert("RGB") if picture.mode in ("RGB", "RGBA") else picture, np.int64)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no picture with labels ({' '.join(str(error).split())})") from None
    return values if values.ndim == 2 else values @ np.array([2**16, 2**8, 1])


def _annotated(image: Path, maps: Sequence[Labels], size: int) -> Annotated:
    with Image.open(image) as picture:
        wide, high = picture.size
        square = _square(picture.convert("RGB"))
        pixels = np.asarray(square.resize((size, size), Image.Resampling.LANCZOS), np.uint8)
    for one in maps:
        if one.shape != (high, wide):
            raise InputError(f"{image} has {high} x {wide} pixels, its annotation {' x '.join(map(str, one.shape))}")
    labels = tuple(
        np.asarray(_square(Image.fromarray(one.astype(np.int32))).resize((size, size), Image.Resampling.NEAREST), np.int64)
        for one in maps
    )
    return Annotated(pixels, {"people": labels})


def _square(picture: Image.Image) -> Image.Image:
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    return picture.crop((left, top, left + side, top + side))
