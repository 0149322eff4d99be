"""The sources of images by name. Other packages add theirs under the entry-point group ``nvgbench.data``.

Importing this file does not import torch; a source's code is imported when it is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from nvgbench.registry import Registry

if TYPE_CHECKING:
    from nvgbench.data.dataset import DataRequest, ImageDataset

    Opener = Callable[[str, DataRequest], ImageDataset]


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """A source of images.

    Attributes:
        form: how it is written, e.g. ``cifar10[:PATH]``.
        opener: function that takes what stands behind the colon and a `DataRequest` and returns an `ImageDataset`; as
            ``module:function`` it is imported on first use.
        num_classes: number of classes; None if it depends on the user's files.
        train_images, eval_images: numbers of images; None if they depend on the user's files.
        unlimited: a limit may exceed these numbers, as images are drawn on demand.
        size: of the stored images, for people.
        needs: what has to be there or is downloaded.
        summary: one line.
    """

    form: str
    opener: str | Opener
    num_classes: int | None = None
    train_images: int | None = None
    eval_images: int | None = None
    unlimited: bool = False
    size: str = "any"
    needs: str
    summary: str

    def load(self) -> Opener:
        """The opener itself."""
        return resolve_name(self.opener) if isinstance(self.opener, str) else self.opener


SHAPES = SourceInfo(
    form="shapes",
    opener="nvgbench.data.shapes:open_shapes",
    num_classes=10,
    train_images=8_192,
    eval_images=2_048,
    unlimited=True,
    needs="nothing",
    summary="procedural images of simple objects with object and part masks; made for 32 to 256 px, as many as asked for",
)
CIFAR10 = SourceInfo(
    form="cifar10[:PATH]",
    opener="nvgbench.data.arrays:open_cifar10",
    num_classes=10,
    train_images=50_000,
    eval_images=10_000,
    size="32 px",
    needs="163 MiB download",
    summary="downloaded on first use; PATH is the folder that holds the archive",
)
CIFAR100 = SourceInfo(
    form="cifar100[:PATH]",
    opener="nvgbench.data.arrays:open_cifar100",
    num_classes=100,
    train_images=50_000,
    eval_images=10_000,
    size="32 px",
    needs="161 MiB download",
    summary="downloaded on first use; PATH is the folder that holds the archive",
)
IMAGEFOLDER = SourceInfo(
    form="imagefolder:PATH",
    opener="nvgbench.data.image_folder:open_folder",
    needs="your images",
    summary="PATH/CLASS/… or PATH/train/CLASS/… and PATH/val/CLASS/… (or validation, test …; without it 10 % are held out); no "
    "CLASS folders: no classes",
)
NPZ = SourceInfo(
    form="npz:PATH",
    opener="nvgbench.data.arrays:open_npz",
    needs="your arrays",
    summary="arr_0: uint8 [N, H, W, 3]; arr_1 or labels: integers [N], a single class without them; 10 % are held out",
)
IMAGENET = SourceInfo(
    form="imagenet:PATH",
    opener="nvgbench.data.image_folder:open_imagenet",
    num_classes=1_000,
    train_images=1_281_167,
    eval_images=50_000,
    needs="ILSVRC 2012",
    summary="PATH/train/SYNSET/… and PATH/val/SYNSET/…; PATH may also come from $NVGBENCH_IMAGENET",
)

SOURCES: Registry[SourceInfo] = Registry(
    "data source",
    "nvgbench.data",
    {
        name: f"nvgbench.data.catalog:{name.upper()}"
        for name in ("shapes", "cifar10", "cifar100", "imagefolder", "npz", "imagenet")
    },
)


def is_source(source: str) -> bool:
    """Whether ``source``, such as ``cifar10:PATH``, names a data source rather than a file."""
    return source.partition(":")[0] in SOURCES.names()
