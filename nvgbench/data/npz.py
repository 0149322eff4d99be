"""Images in an npz, read in pieces: ``arr_0`` uint8 ``[N, H, H, 3]``, labels in ``arr_1`` or ``labels``.

This is the format of the evaluators of the field. The array is not held whole: a member that is stored as it is gets sought
in, a compressed one is decompressed piece by piece. Only one in Fortran order, whose images are scattered over the file, is
read into memory at its first use. Shape letters: N images, B a piece, H and W pixels.
"""

from __future__ import annotations

import functools
import math
import mmap
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from nvgbench.errors import InputError

IMAGES = "arr_0.npy"
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError)
_LOCAL_HEADER = 30
"""Bytes of a local file header before the name (PKWARE APPNOTE 4.3.7); lengths of name and extra field are its last four."""


class NpzImages:
    """The images of a file, each as often as wanted.

    Attributes:
        path: the file.
        count: number of images N.
        image_size: their side, pixels.

    Raises:
        InputError: no whole npz, no ``arr_0``, or one that is no uint8 array of square images.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                if IMAGES not in names:
                    raise InputError(
                        f"{path}: holds {', '.join(sorted(names)[:5]) or 'nothing'}, expected arr_0 with the images"
                    )
                with archive.open(IMAGES) as member:
                    shape, fortran, dtype = _array_header(member)
                    header = member.tell()
                info = archive.getinfo(IMAGES)
            self._offset = _data_offset(path, info) + header if info.compress_type == zipfile.ZIP_STORED else None
        except (*_BROKEN, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: not a whole .npz file ({error}); write or copy it again") from None
        if dtype != np.uint8:
            raise InputError(f"{path}: arr_0 is {dtype}, expected uint8; clamp, round and convert the images (0 to 255)")
        if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or shape[0] < 1:
            raise InputError(f"{path}: arr_0 has shape {shape}, expected [N, H, W, 3] of square images")
        self._fortran = fortran
        self.count, self.image_size = shape[0], shape[1]
        self._bytes = shape[1] * shape[2] * 3
        self._member: IO[bytes] | None = None
        self._header = header

    def labels(self) -> NDArray | None:
        """``arr_1`` or ``labels`` as they stand in the file; None where there are none.

        Raises:
            InputError: they cannot be read.
        """
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                return next((archive[key] for key in ("arr_1", "labels") if key in archive.files), None)
        except (*_BROKEN, ValueError) as error:
            raise InputError(f"{self.path}: its labels cannot be read ({error}); write or copy it again") from None

    def stream(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """All images in order, ``size`` at a time, uint8 ``[B, H, W, 3]``; at the end the file's checksum is held.

        Raises:
            InputError: the file is damaged, or ends early.
        """
        if self._fortran:
            yield from (self._whole[start : start + size] for start in range(0, self.count, size))
            return
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(IMAGES) as member:
                member.read(self._header)
                for start in range(0, self.count, size):
                    yield self._read(member, start, min(start + size, self.count))
                member.read(1)  # the checksum is compared when the end is seen
        except _BROKEN as error:
            raise InputError(f"{self.path}: damaged ({error}); write or copy it again") from None

    def load(self, indices: Sequence[int]) -> NDArray[np.uint8]:
        """Some images, uint8 ``[B, H, W, 3]``. A compressed file is quick only where indices grow from call to call.

        Raises:
            InputError: the file is damaged, or ends early.
        """
        if self._fortran:
            return self._whole[list(indices)]
        runs = _runs(indices)
        try:
            if self._offset is None:
                return np.concatenate([self._decompress(start, stop) for start, stop in runs])
            pieces = []
            with self.path.open("rb") as handle:
                for start, stop in runs:
                    handle.seek(self._offset + start * self._bytes)
                    pieces.append(self._read(handle, start, stop))
            return np.concatenate(pieces)
        except _BROKEN as error:
            raise InputError(f"{self.path}: damaged ({error}); write or copy it again") from None

    @functools.cached_property
    def _whole(self) -> NDArray[np.uint8]:
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                return np.ascontiguousarray(archive[IMAGES.removesuffix(".npy")])
        except (*_BROKEN, ValueError) as error:
            raise InputError(f"{self.path}: damaged ({error}); write or copy it again") from None

    def _decompress(self, start: int, stop: int) -> NDArray[np.uint8]:
        # Kept open: a forward seek goes on decompressing where the last piece ended, a fresh stream would begin at the start.
        if self._member is None:
            self._member = zipfile.ZipFile(self.path).open(IMAGES)  # noqa: SIM115 - closed with this object
        self._member.seek(self._header + start * self._bytes)
        return self._read(self._member, start, stop)

    def _read(self, handle: IO[bytes], start: int, stop: int) -> NDArray[np.uint8]:
        pixels = large_uint8((stop - start, self.image_size, self.image_size, 3))
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


def large_uint8(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An array of zeros in pages of its own, which go back to the system with it.

    On the heap, pieces of some megabytes that come and go between small results leave holes a little too small for the next
    piece, so that a long file ends up in memory as a whole.
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
