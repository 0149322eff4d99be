"""The sources of images by name: the built-in ones, and others by the entry-point group ``nvgbench.data``.

Importing this file does not import torch; a source's code is imported when it is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from nvgbench.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from nvgbench.data.dataset import DataRequest, ImageDataset

    Opener = Callable[[str, DataRequest], ImageDataset]

GROUP = "nvgbench.data"
"""Entry points of this group name a `SourceInfo`; the entry point's name is the name of the source."""


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
        if not isinstance(self.opener, str):
            return self.opener
        module, _, function = self.opener.partition(":")
        return getattr(import_module(module), function)


_BUILT_IN: dict[str, SourceInfo] = {
    "shapes": SourceInfo(
        form="shapes",
        opener="nvgbench.data.shapes:open_shapes",
        num_classes=10,
        train_images=8_192,
        eval_images=2_048,
        unlimited=True,
        needs="nothing",
        summary="procedural images of simple objects with object and part masks; made for 32 to 256 px, as many as asked for",
    ),
    "cifar10": SourceInfo(
        form="cifar10[:PATH]",
        opener="nvgbench.data.arrays:open_cifar10",
        num_classes=10,
        train_images=50_000,
        eval_images=10_000,
        size="32 px",
        needs="163 MiB download",
        summary="downloaded on first use; PATH is the folder that holds the archive",
    ),
    "cifar100": SourceInfo(
        form="cifar100[:PATH]",
        opener="nvgbench.data.arrays:open_cifar100",
        num_classes=100,
        train_images=50_000,
        eval_images=10_000,
        size="32 px",
        needs="161 MiB download",
        summary="downloaded on first use; PATH is the folder that holds the archive",
    ),
    "imagefolder": SourceInfo(
        form="imagefolder:PATH",
        opener="nvgbench.data.image_folder:open_folder",
        needs="your images",
        summary="PATH/CLASS/… or PATH/train/CLASS/… and PATH/{val,test}/CLASS/…; without a second folder 10 % are held out",
    ),
    "npz": SourceInfo(
        form="npz:PATH",
        opener="nvgbench.data.arrays:open_npz",
        needs="your arrays",
        summary="arr_0: uint8 [N, H, W, 3]; arr_1 or labels: integers [N], a single class without them; 10 % are held out",
    ),
    "imagenet": SourceInfo(
        form="imagenet:PATH",
        opener="nvgbench.data.image_folder:open_imagenet",
        num_classes=1_000,
        train_images=1_281_167,
        eval_images=50_000,
        needs="ILSVRC 2012",
        summary="PATH/train/SYNSET/… and PATH/val/SYNSET/…; PATH may also come from $NVGBENCH_IMAGENET",
    ),
}


def source_names() -> tuple[str, ...]:
    """Names of all sources: the built-in ones, then those of installed packages."""
    return tuple(dict.fromkeys([*_BUILT_IN, *sorted(entry.name for entry in entry_points(group=GROUP))]))


def is_source(source: str) -> bool:
    """Whether ``source``, such as ``cifar10:PATH``, names a data source rather than a file."""
    return source.partition(":")[0] in source_names()


def get_source(name: str) -> SourceInfo:
    """The source called ``name``.

    Raises:
        InputError: no such source, or a package's source that cannot be loaded.
    """
    if name in _BUILT_IN:
        return _BUILT_IN[name]
    for entry in entry_points(group=GROUP, name=name):
        try:
            found = entry.load()
        except Exception as error:  # whatever the import of somebody's module raises
            raise InputError(f"the data source {name!r} ({entry.value}) cannot be loaded: {error!r}") from error
        if not isinstance(found, SourceInfo):
            raise InputError(f"the data source {name!r} ({entry.value}) is a {type(found).__name__}; expected a SourceInfo")
        return found
    known = source_names()
    raise InputError(f"no data source {name!r}{did_you_mean(name, known)}; known: {', '.join(known)}")
