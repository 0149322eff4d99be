"""Images in an npz, read in pieces: ``arr_0`` uint8 ``[N, H, W, 3]``, labels in ``arr_1`` or ``labels``.

This is the format of the field's evaluators. The array is never held whole: in an uncompressed member the reader seeks, a
compressed one is decompressed piece by piece. The exception is Fortran order, where an image's bytes are scattered over the
file: such an array is read into memory on first use. Shape letters: N images, B a piece, H and W pixels.
"""

from __future__ import annotations

import functools
import math
import mmap
import os
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from nvgbench.errors import InputError

IMAGES = "arr_0.npy"
_LOCAL_HEADER = 30
"""Bytes of a local file header before the name (PKWARE APPNOTE 4.3.7); lengths of name and extra field are its last four."""


class NpzImages:
    """The images of a file, read as often as needed.

    Attributes:
        path: the file.
        count: number of images N.
        height, width: of every image, pixels.

    Raises:
        InputError: not a whole npz, no ``arr_0``, or an ``arr_0`` that is not uint8 ``[N, H, W, 3]``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        with _reading(self.path), zipfile.ZipFile(self.path) as archive:
            if IMAGES not in archive.namelist():
                held = ", ".join(name.removesuffix(".npy") for name in sorted(archive.namelist())[:5]) or "nothing"
                raise InputError(f"{self.path} has no arr_0; it holds {held}, expected arr_0 with the images")
            with archive.open(IMAGES) as member:
                shape, self._fortran, dtype = _array_header(member)
                self._header = member.tell()
            info = archive.getinfo(IMAGES)
            stored = info.compress_type == zipfile.ZIP_STORED
            self._offset = _data_offset(self.path, info) + self._header if stored else None
        if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
            remedy = "; clamp to 0 to 255, round and convert" if dtype != np.uint8 else ""
            raise InputError(f"{self.path}: arr_0 is {dtype} {list(shape)}; expected uint8 images [N, H, W, 3]{remedy}")
        if 0 in shape:
            raise InputError(f"{self.path}: arr_0 holds 0 images {list(shape)}; expected at least one [N, H, W, 3]")
        self.count, self.height, self.width = shape[:3]
        self._bytes = self.height * self.width * 3
        self._member: IO[bytes] | None = None

    def labels(self) -> NDArray | None:
        """``arr_1`` or ``labels`` as they stand in the file, or None.

        Raises:
            InputError: they cannot be read.
        """
        arrays = npz_arrays(self.path, ("arr_1", "labels"))
        return None if not arrays else next(iter(arrays.values()))

    def stream(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """All images in order, ``size`` at a time, uint8 ``[B, H, W, 3]``; after the last, the checksum is verified.

        Raises:
            InputError: the file is damaged, or ends early.
        """
        if self._fortran:
            yield from (self._whole[start : start + size] for start in range(0, self.count, size))
            return
        with _reading(self.path), zipfile.ZipFile(self.path) as archive, archive.open(IMAGES) as member:
            member.read(self._header)
            for start in range(0, self.count, size):
                yield self._read(member, start, min(start + size, self.count))
            member.read(1)  # the checksum is compared once the end is reached

    def load(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Some images, uint8 ``[B, H, W, 3]``. In a compressed file this is fast only if indices ascend from call to call.

        Raises:
            InputError: the file is damaged, or ends early.
        """
        if self._fortran:
            return self._whole[list(indices)]
        with _reading(self.path):
            if self._offset is None:
                return np.concatenate([self._decompress(start, stop) for start, stop in _runs(indices)])
            pieces = []
            with self.path.open("rb") as handle:
                for start, stop in _runs(indices):
                    handle.seek(self._offset + start * self._bytes)
                    pieces.append(self._read(handle, start, stop))
            return np.concatenate(pieces)

    @functools.cached_property
    def _whole(self) -> NDArray[np.uint8]:
        with _reading(self.path), np.load(self.path, allow_pickle=False) as archive:
            return np.ascontiguousarray(archive[IMAGES.removesuffix(".npy")])

    def _decompress(self, start: int, stop: int) -> NDArray[np.uint8]:
        # Kept open: a forward seek continues where the last piece ended, a new stream would start from the beginning.
        if self._member is None:
            self._member = zipfile.ZipFile(self.path).open(IMAGES)  # noqa: SIM115 - closed with this object
        self._member.seek(self._header + start * self._bytes)
        return self._read(self._member, start, stop)

    def _read(self, handle: IO[bytes], start: int, stop: int) -> NDArray[np.uint8]:
        pixels = large_uint8((stop - start, self.height, self.width, 3))
        view = pixels.reshape(-1).data
        filled = 0
        while filled < len(view):
            part = handle.read(min(len(view) - filled, 1 << 22))
            if not part:
                images = start + filled // self._bytes
                raise InputError(f"{self.path}: ends after {images} of {self.count} images; copy it again")
            view[filled : filled + len(part)] = part
            filled += len(part)
        return pixels


def npz_arrays(path: str | os.PathLike[str], keys: Sequence[str]) -> dict[str, NDArray] | None:
    """Those of ``keys`` that an npz holds, with their arrays; None if ``path`` is no npz.

    Raises:
        InputError: one of them cannot be read.
    """
    if not zipfile.is_zipfile(path):
        return None
    with _reading(path), np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in keys if key in archive.files}


@contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """What zip and NumPy raise for a damaged file, as one line with its name."""
    try:
        yield
    except InputError:
        raise
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError) as error:
        raise InputError(f"{path} is damaged or not an .npz file ({error}); write or copy it again") from None


def large_uint8(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An array of zeros in memory pages of its own, which are returned to the system together with it.

    On the heap, pieces of a few megabytes that are freed between small results leave holes slightly too small for the next
    piece, until memory has grown to the size of the whole file.
    """
    return np.frombuffer(mmap.mmap(-1, max(1, math.prod(shape))), dtype=np.uint8)[: math.prod(shape)].reshape(shape)


def _array_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(member)


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin; the lengths in its local header may differ from those in the directory."""
    with path.open("rb") as handle:
        handle.seek(info.header_offset)
        header = handle.read(_LOCAL_HEADER)
    return (
        info.header_offset + _LOCAL_HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    )


def _runs(indices: Sequence[int]) -> list[tuple[int, int]]:
    """``[3, 4, 5, 9]`` to ``[(3, 6), (9, 10)]``."""
    runs: list[tuple[int, int]] = []
    for index in indices:
        if runs and runs[-1][1] == index:
            runs[-1] = (runs[-1][0], index + 1)
        else:
            runs.append((index, index + 1))
    return runs
