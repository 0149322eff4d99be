"""Data sets of image files, one folder per class: ``imagefolder:PATH`` and ``imagenet:PATH``."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nvgbench.data.dataset import DataRequest, ImageDataset
from nvgbench.data.decode import read_image
from nvgbench.data.file_hashes import file_hashes
from nvgbench.data.files import EVAL_FOLDERS, SPLIT_FOLDERS, LeftOut, is_hidden, is_image_name, left_out_remarks, list_images
from nvgbench.data.remarks import Remark
from nvgbench.data.selection import HELD_OUT, held_out, round_robin
from nvgbench.errors import InputError, did_you_mean

IMAGENET_VARIABLE = "NVGBENCH_IMAGENET"


class FolderDataset(ImageDataset):
    """Image files below ``root``, decoded on demand.

    Args:
        root: the folder.
        paths: of the files, relative to it, with ``/``.
        labels: int64 ``[N]``, one per file.
        classes: names of the classes.
        name: of the data set.
        request: see `DataRequest`.
        remarks: what was unexpected in the folder.
    """

    threaded = True

    def __init__(
        self,
        root: Path,
        paths: Sequence[str],
        labels: np.ndarray,
        classes: Sequence[str],
        *,
        name: str,
        request: DataRequest,
        remarks: Sequence[Remark] = (),
    ) -> None:
        order = round_robin(labels)[: request.limit]
        self.root = root
        self.paths = [paths[i] for i in order]
        super().__init__(
            name=name,
            classes=classes,
            labels=labels[order],
            image_size=request.image_size,
            fingerprint=self._content_fingerprint,
            augment=request.augment,
            remarks=remarks,
        )

    def _content_fingerprint(self) -> str:
        digest = hashlib.sha256(f"folder size={self.image_size}\n".encode())
        paths = sorted(self.paths)
        for path, sha256 in zip(paths, file_hashes(self.root, paths), strict=True):
            digest.update(f"{path}\0{sha256}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def read(self, index: int) -> np.ndarray:
        return read_image(self.root / self.paths[index], self.notes)

    def describe(self, index: int) -> str:
        return str(self.root / self.paths[index])


def open_folder(location: str, request: DataRequest) -> FolderDataset:
    """``PATH/train`` and ``PATH/val`` with class folders, or class folders in PATH, of which a tenth is held out.

    Images without class folders, in PATH or in both of these folders, are a data set without classes.

    ``validation``, ``valid``, ``eval`` and ``test`` stand for ``val``. Without such a folder a tenth of each class is held out,
    chosen by the hash of the files' relative paths.

    Raises:
        InputError: the folder is missing or empty, has no class folders, or a held-out class is not among the training classes.
    """
    root = _existing_folder(location, "imagefolder")
    flat = _flat_folders(root)
    train, held, remarks = flat or _split_folders(root)
    classes = () if flat else class_folders(root / train)
    if held is not None:
        _check_known(root / held, classes)  # now rather than when the trained model is scored
    images_of = _flat_images if flat else class_images
    paths, labels, left_out = images_of(root, train if request.split == "train" or held is None else held, classes)
    rule = ""
    if held is None:
        out = held_out(paths, labels)
        if not out.any():
            raise InputError(f"{root}: no class has more than one image, and a tenth is held out; it takes 2 images of a class")
        chosen = np.flatnonzero(out == (request.split == "eval"))
        paths, labels = [paths[i] for i in chosen], labels[chosen]
        rule = f", {HELD_OUT}"
    name = f"imagefolder:{location} ({request.split}{rule})"
    remarks += (*left_out, *_text_order(classes))
    return FolderDataset(root, paths, labels, classes, name=name, request=request, remarks=remarks)


def _flat_folders(root: Path) -> tuple[str, str | None, tuple[Remark, ...]] | None:
    """As `_split_folders`, for images without class folders; None if there are class folders, or no images."""
    names = class_folders(root)
    splits = {name.lower(): name for name in names}
    train = splits.get("train", "")
    if names and not (train and splits.keys() <= SPLIT_FOLDERS):
        return None
    held = next((splits[name] for name in EVAL_FOLDERS if name in splits and list_images(root / splits[name]).paths), None)
    if any(class_folders(root / part) for part in (train, held) if part) or not list_images(root / train).paths:
        return None
    return train, held, (Remark("classes", f"{root / train} has no class folders: its images are taken without classes"),)


def _flat_images(root: Path, part: str, classes: Sequence[str]) -> tuple[list[str], np.ndarray, tuple[Remark, ...]]:
    """As `class_images`, without classes; all labels are 0."""
    listing = list_images(root / part)
    paths = [(Path(part) / path).as_posix() for path in listing.paths]
    return paths, np.zeros(len(paths), dtype=np.int64), left_out_remarks(listing.left_out, str(root / part))


def _split_folders(root: Path) -> tuple[str, str | None, tuple[Remark, ...]]:
    """The folder of the training classes below ``root`` (empty for ``root`` itself), that of the held-out ones if there is one,
    and remarks on those that are not used.

    Raises:
        InputError: no class folders, or a folder of held-out images without class folders.
    """
    names = class_folders(root)
    splits = {name.lower(): name for name in names if name.lower() in SPLIT_FOLDERS}
    train = splits.get("train", "")
    classes = set(names) - set(splits.values())
    if not (train and class_folders(root / train)):
        if not names or (splits and not classes):
            where = root / train
            raise InputError(f"{where} has no class folders; put the images into {where}/CLASS/, one folder per class")
        for name in splits.values():
            if classes.issuperset(inside := class_folders(root / name)) and inside:
                raise InputError(
                    f"{root / name} has the same classes as {root}; put the other class folders into {root}/train for training"
                )
        return "", None, ()
    unused = sorted(classes)
    held = None
    for split in EVAL_FOLDERS:
        if split not in splits:
            continue
        folder = root / splits[split]
        if held is not None or not class_folders(folder):
            if held is None and list_images(folder).paths:
                raise InputError(
                    f"{folder} holds images but no class folders, so their classes are unknown; sort them into "
                    f"{folder}/CLASS/, or move the folder away to hold out a tenth of {root / train}"
                )
            unused.append(splits[split])
        else:
            held = splits[split]
    remark = Remark("files", f"folders of {root} that are not used: {', '.join(unused)}")
    return train, held, (remark,) if unused else ()


def _text_order(classes: Sequence[str]) -> tuple[Remark, ...]:
    """A remark if the names of the classes are numbers whose text order is another than that of the numbers."""
    if not all(name.isdecimal() for name in classes):
        return ()
    for label, (name, by_number) in enumerate(zip(classes, sorted(classes, key=int), strict=True)):
        if name != by_number:
            return (
                Remark(
                    "classes",
                    f"the class folders are numbers, sorted as text: label {label} is class {name!r}, not {by_number!r}; "
                    "pad the names with zeros for the order of numbers",
                ),
            )
    return ()


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
    paths, labels, remarks = class_images(root, "train" if request.split == "train" else "val", classes)
    name = f"imagenet:{location} ({request.split})"
    return FolderDataset(root, paths, labels, classes, name=name, request=request, remarks=remarks)


def class_folders(folder: Path) -> tuple[str, ...]:
    """Names of the visible folders in ``folder``, sorted; none if it does not exist."""
    if not folder.is_dir():
        return ()
    names = os.listdir(folder)
    return tuple(sorted(name for name in names if not is_hidden(name) and os.path.isdir(os.path.join(folder, name))))


def class_images(root: Path, part: str, classes: Sequence[str]) -> tuple[list[str], np.ndarray, tuple[Remark, ...]]:
    """All images below the class folders of ``root / part``, class by class, sorted by path.

    Returns:
        Their paths relative to ``root``, their labels (indices into ``classes``, int64 ``[N]``), and what was left out.

    Raises:
        InputError: a class folder is not among ``classes`` or holds no images, or there are none at all.
    """
    base = root / part
    _check_known(base, classes)
    paths: list[str] = []
    labels: list[int] = []
    left_out = _outside_of_classes(base)
    empty = ""
    for class_name in class_folders(base):
        place = Path(part, class_name)
        listing = list_images(root / place)
        left_out += listing.left_out
        paths += [(place / path).as_posix() for path in listing.paths]
        labels += [classes.index(class_name)] * len(listing.paths)
        if not listing.paths:
            found = "".join(f"; {remark.text}" for remark in left_out_remarks(listing.left_out, "it"))
            empty = f"class folder {base / class_name} holds no images{found}; put some there, or remove the folder"
    if not paths:
        raise InputError(f"no images below {base}; expected {base}/CLASS/*.png, *.jpg or other image files")
    if empty:
        raise InputError(empty)
    return paths, np.array(labels, dtype=np.int64), left_out_remarks(left_out, str(base))


def _outside_of_classes(base: Path) -> LeftOut:
    """Images and links that lie beside the class folders of ``base``."""
    left_out: LeftOut = Counter()
    for name in os.listdir(base):
        path = base / name
        if os.path.islink(path) and not os.path.exists(path):
            left_out["dangling link", ""] += 1
        elif os.path.isfile(path) and is_image_name(name):
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
    root = Path(os.path.expanduser(location))
    if not root.is_dir():
        found = "is a file" if root.exists() else "does not exist"
        raise InputError(f"{root} {found}; `data='{source}:PATH'` takes a folder of images")
    return root
