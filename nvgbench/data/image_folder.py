"""Data sets of image files, one folder per class: ``imagefolder:PATH`` and ``imagenet:PATH``."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nvgbench.data.dataset import DataRequest, ImageDataset
from nvgbench.data.decode import read_image
from nvgbench.data.files import LeftOut, is_hidden, is_image_name, left_out_remarks, list_images
from nvgbench.data.remarks import Remark
from nvgbench.data.selection import HELD_OUT, held_out, round_robin
from nvgbench.errors import InputError, did_you_mean

IMAGENET_VARIABLE = "NVGBENCH_IMAGENET"
_EVAL_FOLDERS = ("val", "test")


@dataclass(frozen=True)
class ImageFile:
    """A file: its path relative to the data set's folder (with ``/``), its class and its size in bytes."""

    path: str
    class_name: str
    size: int


class FolderDataset(ImageDataset):
    """Image files, decoded on demand."""

    threaded = True

    def __init__(
        self,
        root: Path,
        files: Sequence[ImageFile],
        classes: Sequence[str],
        *,
        name: str,
        request: DataRequest,
        remarks: Sequence[Remark] = (),
    ) -> None:
        index = {class_name: label for label, class_name in enumerate(classes)}
        labels = np.array([index[file.class_name] for file in files], dtype=np.int64)
        order = round_robin(labels)[: request.limit]
        files = [files[i] for i in order]
        digest = hashlib.sha256(f"folder size={request.image_size}\n".encode())
        for file in sorted(files, key=lambda file: file.path):
            digest.update(f"{file.path}\0{file.size}\n".encode("utf-8", "surrogateescape"))
        self.root = root
        self.paths = [file.path for file in files]
        super().__init__(
            name=name,
            classes=classes,
            labels=labels[order],
            image_size=request.image_size,
            fingerprint=digest.hexdigest(),
            augment=request.augment,
            remarks=remarks,
        )

    def read(self, index: int) -> np.ndarray:
        return read_image(self.root / self.paths[index], self.notes)

    def describe(self, index: int) -> str:
        return str(self.root / self.paths[index])


def open_folder(location: str, request: DataRequest) -> FolderDataset:
    """``PATH/train`` and ``PATH/val`` (else ``PATH/test``) with class folders, or class folders in PATH, split 90 to 10.

    Without a second folder a tenth of the files is held out, chosen by the hash of their relative paths.

    Raises:
        InputError: the folder is missing or empty, has no class folders, or a held-out class is not among the training classes.
    """
    root = _existing_folder(location, "imagefolder")
    names = class_folders(root)
    train = "train" if class_folders(root / "train") else ""
    if not train and (not names or set(names) <= {"train", *_EVAL_FOLDERS}):
        where = root / "train" if "train" in names else root
        raise InputError(f"{where} has no class folders; put the images into {where}/CLASS/, one folder per class")
    classes = class_folders(root / train)
    held = next((name for name in _EVAL_FOLDERS if train and class_folders(root / name)), None)
    if held is not None:
        _check_known(root / held, classes)  # now rather than when the trained model is scored
    files, remarks = class_images(root, train if request.split == "train" or held is None else held, classes)
    rule = ""
    if held is None:
        chosen = held_out([file.path for file in files])
        if len(files) < 2:
            raise InputError(f"{root} holds {len(files)} image; a tenth is held out, which takes at least 2")
        files = [file for file, out in zip(files, chosen, strict=True) if out == (request.split == "eval")]
        rule = f", {HELD_OUT}"
    name = f"imagefolder:{location} ({request.split}{rule})"
    return FolderDataset(root, files, classes, name=name, request=request, remarks=remarks)


def open_imagenet(location: str, request: DataRequest) -> FolderDataset:
    """ILSVRC 2012: ``PATH/train`` and ``PATH/val`` with synset folders; PATH may come from ``$NVGBENCH_IMAGENET``.

    Raises:
        InputError: no path given, a folder is missing or not sorted into synset folders.
    """
    location = location or os.environ.get(IMAGENET_VARIABLE, "")
    if not location:
        raise InputError(
            f"'imagenet' needs the path of your copy: `data='imagenet:PATH'` (or ${IMAGENET_VARIABLE}); alternatives: "
            "`data='imagefolder:PATH'` with your own images, `data='shapes'` without any files"
        )
    root = _existing_folder(location, "imagenet")
    for part in ("train", "val"):
        folders = class_folders(root / part)
        strange = [name for name in folders if not re.fullmatch(r"n\d{8}", name)]
        if not folders or strange:
            found = f"holds {strange[0]!r}" if strange else "has no class folders"
            raise InputError(
                f"{root / part} {found}; expected synset folders such as n01440764 in {root}/train and {root}/val; "
                "for other layouts use `data='imagefolder:PATH'`"
            )
    classes = class_folders(root / "train")
    files, remarks = class_images(root, "train" if request.split == "train" else "val", classes)
    name = f"imagenet:{location} ({request.split})"
    return FolderDataset(root, files, classes, name=name, request=request, remarks=remarks)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Names of the visible folders in ``folder``, sorted; none if it does not exist."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not is_hidden(entry.name)))


def class_images(root: Path, part: str, classes: Sequence[str]) -> tuple[list[ImageFile], tuple[Remark, ...]]:
    """All images below the class folders of ``root / part``, class by class, sorted by path; and what was left out.

    Raises:
        InputError: a class folder is not among ``classes`` or holds no images, or there are none at all.
    """
    base = root / part
    _check_known(base, classes)
    files: list[ImageFile] = []
    left_out = _outside_of_classes(base)
    empty = None
    for class_name in class_folders(base):
        place = Path(part, class_name)
        listing = list_images(root / place)
        left_out += listing.left_out
        found = [(place / path).as_posix() for path in listing.paths]
        files += [ImageFile(path, class_name, (root / path).stat().st_size) for path in found]
        empty = empty if found else class_name
    if not files:
        raise InputError(f"no images below {base}; expected {base}/CLASS/*.png, *.jpg or other image files")
    if empty is not None:
        raise InputError(f"class folder {base / empty} holds no images; put some there, or remove the folder")
    return files, left_out_remarks(left_out, str(base))


def _outside_of_classes(base: Path) -> LeftOut:
    """Images and links that lie beside the class folders of ``base``."""
    left_out: LeftOut = Counter()
    for entry in os.scandir(base):
        if entry.is_symlink() and not os.path.exists(entry.path):
            left_out["dangling link", ""] += 1
        elif entry.is_file() and is_image_name(entry.name):
            left_out["image outside of the class folders", ""] += 1
    return left_out


def _check_known(base: Path, classes: Sequence[str]) -> None:
    for class_name in class_folders(base):
        if class_name not in classes:
            raise InputError(
                f"class folder {base / class_name} is not among the training classes{did_you_mean(class_name, classes)}; "
                "rename or remove it"
            )


def _existing_folder(location: str, source: str) -> Path:
    if not location:
        raise InputError(f"{source!r} needs a folder: `data='{source}:PATH'`")
    root = Path(location).expanduser()
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise InputError(f"{root} {found}; `data='{source}:PATH'` takes a folder of images")
    return root
