"""Image files in a folder or in a zip (as StyleGAN's dataset_tool writes it), read one by one."""

from __future__ import annotations

import io
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from nvgbench.data.archive import open_archive, open_member, reading
from nvgbench.data.decode import Header, decode_header, decode_image
from nvgbench.data.files import LeftOut, is_hidden, is_image_name, left_out_remarks, list_images
from nvgbench.data.identify import printable
from nvgbench.data.remarks import Notes, Remark
from nvgbench.errors import InputError

_LABELS = "dataset.json"
_MOST_BYTES = 1 << 28
"""Files above are not unpacked into memory."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files.

    Attributes:
        place: the folder or archive.
        paths: of the files in it, with ``/``, sorted by their parts.
        open: opens one of ``paths``.
        labels: class of each of ``paths``, if the archive lists them.
        remarks: what was left out.
    """

    place: Path
    paths: tuple[str, ...]
    open: Callable[[str], IO[bytes]]
    labels: NDArray[np.int64] | None = None
    remarks: tuple[Remark, ...] = ()

    def header(self, path: str) -> Header:
        """Size and format of an image.

        Raises:
            InputError: it cannot be read.
        """
        with self.open(path) as handle:
            return decode_header(handle, self.describe(path))

    def read(self, path: str, notes: Notes) -> NDArray[np.uint8]:
        """An image, uint8 RGB ``[h, w, 3]``; see `nvgbench.data.decode.read_image`."""
        with self.open(path) as handle:
            return decode_image(handle, self.describe(path), notes)

    def describe(self, path: str) -> str:
        """What to call an image in a message."""
        return f"{self.place}/{printable(path)}"


def files_of_folder(folder: Path) -> ImageFiles:
    """The images of a folder and its sub-folders.

    Raises:
        InputError: there are none.
    """
    listing = list_images(folder)
    remarks = left_out_remarks(listing.left_out, str(folder))
    _refuse_none(folder, listing.paths, remarks)
    return ImageFiles(folder, listing.paths, lambda path: (folder / path).open("rb"), remarks=remarks)


def files_of_zip(path: Path) -> ImageFiles:
    """The images of a zip archive, with the labels of its ``dataset.json`` if it has them.

    Raises:
        InputError: not a whole zip, or no images in it.
    """
    with reading(path), open_archive(path):
        archive = zipfile.ZipFile(path)  # stays open: its directory may list a million files
    paths: list[str] = []
    left_out: LeftOut = Counter()
    for name in archive.namelist():
        if any(map(is_hidden, name.split("/"))):
            left_out["hidden file", ""] += 1
        elif is_image_name(name):
            paths.append(name)
        elif name != _LABELS and not name.endswith("/"):
            left_out["other file", Path(name).suffix.lower() or "no suffix"] += 1
    paths.sort(key=lambda name: name.split("/"))
    remarks = left_out_remarks(left_out, str(path))
    _refuse_none(path, paths, remarks)

    def open_file(name: str) -> IO[bytes]:
        size = archive.getinfo(name).file_size
        if size > _MOST_BYTES:
            raise InputError(f"{path}/{printable(name)} has {size:,} bytes, more than the limit of {_MOST_BYTES:,}; remove it")
        with reading(path), open_member(archive, name) as member:
            return io.BytesIO(member.read())

    with reading(path):
        labels = _listed_labels(archive, paths)
    return ImageFiles(path, tuple(paths), open_file, labels, remarks)


def _refuse_none(place: Path, paths: Sequence[str], remarks: Sequence[Remark]) -> None:
    if not paths:
        what = "folder" if place.is_dir() else "archive"
        found = "".join(f"; {remark.text}" for remark in remarks)
        raise InputError(f"{place}: no images in this {what}; expected .png, .jpg or other image files{found}")


def _listed_labels(archive: zipfile.ZipFile, paths: Sequence[str]) -> NDArray[np.int64] | None:
    """Classes ``[N]`` from ``dataset.json``: ``{"labels": [[path, class], …]}``; None unless every image has one."""
    if _LABELS not in archive.namelist():
        return None
    with open_member(archive, _LABELS) as member:
        content = json.loads(member.read())
    listed = dict(content.get("labels") or ())
    labels = [listed.get(path) for path in paths]
    if not all(isinstance(label, int) and 0 <= label < 2**63 for label in labels):
        return None
    return np.array(labels, dtype=np.int64)
