"""The sources of images by name, for look-ups and listings. Importing this file does not import torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SourceInfo:
    """One line of ``nvgbench data list``.

    Attributes:
        form: how it is written, e.g. ``cifar10[:PATH]``.
        classes, images, size: for people; images are training + held-out ones.
        needs: what has to be there or is downloaded.
        summary: one line.
    """

    form: str
    classes: str
    images: str
    size: str
    needs: str
    summary: str


SOURCES: dict[str, SourceInfo] = {
    "shapes": SourceInfo(
        form="shapes",
        classes="10",
        images="8,192 + 2,048",
        size="any",
        needs="nothing",
        summary="drawn pictures of simple objects with object and part masks; made for 32 to 256 px, any number of images",
    ),
    "cifar10": SourceInfo(
        form="cifar10[:PATH]",
        classes="10",
        images="50,000 + 10,000",
        size="32 px",
        needs="163 MiB download",
        summary="downloaded on first use; PATH is the folder that holds the archive",
    ),
    "cifar100": SourceInfo(
        form="cifar100[:PATH]",
        classes="100",
        images="50,000 + 10,000",
        size="32 px",
        needs="161 MiB download",
        summary="downloaded on first use; PATH is the folder that holds the archive",
    ),
    "imagefolder": SourceInfo(
        form="imagefolder:PATH",
        classes="one a folder",
        images="all found",
        size="any",
        needs="your images",
        summary="PATH/CLASS/… or PATH/train/CLASS/… and PATH/{val,test}/CLASS/…; without a second folder 10 % are held out",
    ),
    "npz": SourceInfo(
        form="npz:PATH",
        classes="as labelled",
        images="all in the file",
        size="any",
        needs="your arrays",
        summary="arr_0: uint8 [N, H, W, 3]; arr_1 or labels: integers [N], one class where absent; 10 % are held out",
    ),
    "imagenet": SourceInfo(
        form="imagenet:PATH",
        classes="1,000",
        images="1,281,167 + 50,000",
        size="any",
        needs="ILSVRC 2012",
        summary="PATH/train/SYNSET/… and PATH/val/SYNSET/…; PATH may also come from $NVGBENCH_IMAGENET",
    ),
}
