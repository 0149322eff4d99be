"""Images with segmentations: the exact masks of ``shapes``, or a folder laid out like BSDS500.

Shape letters: H and W pixels of the square that a model sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    annotators; the central square is scaled to the run's size, maps by their nearest pixel. Everything else is a data source,
    which must be ``shapes``: its levels are ``semantic`` (object or ground), ``object`` and ``part``.

    Raises:
        InputError: a source without annotations, or a folder of another layout.
    """
    data = run.config.data
    source = context.data or data.source
    if source.startswith(BSDS):
        files = _bsds_files(Path(source.removeprefix(BSDS)))[: context.images]
        return len(files), (_read_bsds(*pair, data.image_size) for pair in files)
    dataset = open_dataset(source, image_size=data.image_size, split="eval", limit=context.images, seed=data.seed)
    if not isinstance(dataset, ShapesDataset):
        raise InputError(f"{source} has no segmentations; use `data=shapes` or `data=bsds:FOLDER`")
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


def _read_bsds(image: Path, truth: Path, size: int) -> Annotated:
    from scipy.io import loadmat

    try:
        cells = loadmat(truth)["groundTruth"][0]
        maps = [np.asarray(cell["Segmentation"][0, 0]) for cell in cells]
    except Exception as error:  # scipy's reader fails in many ways on other files
        raise InputError(f"{truth} is no ground truth of BSDS500 ({' '.join(str(error).split())})") from None
    with Image.open(image) as picture:
        square = _square(picture.convert("RGB"))
        pixels = np.asarray(square.resize((size, size), Image.Resampling.LANCZOS), np.uint8)
    labels = tuple(
        np.asarray(_square(Image.fromarray(one.astype(np.int32))).resize((size, size), Image.Resampling.NEAREST), np.int64)
        for one in maps
    )
    return Annotated(pixels, {"people": labels})


def _square(picture: Image.Image) -> Image.Image:
    side = min(picture.size)
    left, top = ((length - side) // 2 for length in picture.size)
    return picture.crop((left, top, left + side, top + side))
