"""Arrays of images in an npz or npy, read in pieces: ``arr_0`` uint8 ``[N, H, W, 3]``, labels in ``arr_1`` or ``labels``.

This is the format of the field's evaluators. The array is never held whole: in an uncompressed member the reader seeks, a
compressed one is decompressed piece by piece. The exception is Fortran order, where an image's bytes are scattered over the
file: such an array is read into memory on first use. Shape letters: N images, B a piece, H and W pixels.
"""

from __future__ import annotations

import errno
import functools
import math
import mmap
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from nvgbench.data.files import is_image_name
from nvgbench.data.identify import HEAD, describe, printable
from nvgbench.errors import InputError
from nvgbench.files import StrPath

IMAGES = "arr_0"
LABELS = ("arr_1", "labels")
CLASSES = ("classes", "class_names")
_NPY = b"\x93NUMPY"
_MOST_BYTES = 1 << 29
"""Arrays other than the images are refused above; they are labels, names and statistics."""
_LOCAL_HEADER = 30
"""Bytes of a local file header before the name (PKWARE APPNOTE 4.3.7); lengths of name and extra field are its last four."""
_METHODS = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES encryption"}
"""Compression methods that Python's zipfile does not read, or not in every version (PKWARE APPNOTE 4.4.5)."""


class NpzImages:
    """The images of a file, read as often as needed.

    Args:
        path: an npz, or an npy that holds nothing but the images.
        key: name of the images in an npz.

    Attributes:
        path: the file.
        count: number of images N.
        height, width: of every image, pixels.

    Raises:
        InputError: not a whole npz or npy, no such array, or one that is not uint8 ``[N, H, W, 3]``.
    """

    def __init__(self, path: StrPath, key: str | None = None) -> None:
        self.path = Path(path)
        self.key = key or IMAGES
        self._bare = _head(self.path).startswith(_NPY)
        with reading(self.path), self._open() as member:
            shape, self._fortran, dtype = _array_header(member)
            self._header = member.tell()
        with reading(self.path):
            size, self._offset = self._extent()
        what = "the array" if self._bare else self.key
        if dtype.hasobject:
            raise InputError(f"{self.path}: {what} is an array of Python objects; save uint8 images [N, H, W, 3]")
        if dtype != np.uint8 or len(shape) != 4 or shape[3] != 3:
            found = f"{dtype} {list(shape)}"
            raise InputError(f"{self.path}: {what} is {found}; expected uint8 images [N, H, W, 3]{_remedy(shape, dtype)}")
        if min(shape) < 1:
            raise InputError(f"{self.path}: {what} holds 0 images {list(shape)}; expected at least one [N, H, W, 3]")
        self.count, self.height, self.width = shape[:3]
        self._bytes = self.height * self.width * 3
        if size < self._header + self.count * self._bytes:
            whole = max(0, size - self._header) // self._bytes
            raise InputError(f"{self.path}: ends after {whole} of {self.count} images; copy it again")
        self._member: IO[bytes] | None = None

    def labels(self) -> NDArray | None:
        """``arr_1`` or ``labels`` as they stand in the file, or None; see `npz_arrays` for Python objects.

        Raises:
            InputError: they cannot be read.
        """
        return None if self._bare else next(iter(npz_arrays(self.path, LABELS).values()), None)

    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, if ``classes`` or ``class_names`` is an array of text ``[K]``; a label is an index into it."""
        if self._bare:
            return ()
        for names in npz_arrays(self.path, CLASSES).values():
            if names.dtype.kind == "U" and names.ndim == 1:
                return tuple(names.tolist())
        return ()

    def stream(self, size: int) -> Iterator[NDArray[np.uint8]]:
        """All images in order, ``size`` at a time, uint8 ``[B, H, W, 3]``; after the last, the checksum is verified.

        Raises:
            InputError: the file is damaged, or ends early.
        """
        if self._fortran:
            yield from (self._whole[start : start + size] for start in range(0, self.count, size))
            return
        with reading(self.path), self._open() as member:
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
        with reading(self.path):
            if self._offset is None:
                return np.concatenate([self._decompress(start, stop) for start, stop in _runs(indices)])
            pieces = []
            with self.path.open("rb") as handle:
                for start, stop in _runs(indices):
                    handle.seek(self._offset + start * self._bytes)
                    pieces.append(self._read(handle, start, stop))
            return np.concatenate(pieces)

    @contextmanager
    def _open(self) -> Iterator[IO[bytes]]:
        if self._bare:
            with self.path.open("rb") as handle:
                yield handle
        else:
            with open_archive(self.path) as archive, open_member(archive, self._name(archive)) as member:
                yield member

    def _name(self, archive: zipfile.ZipFile) -> str:
        names = archive.namelist()
        if f"{self.key}.npy" in names:
            return f"{self.key}.npy"
        if any(name.endswith("data.pkl") for name in names):
            raise InputError(f"{self.path} is a PyTorch checkpoint; expected an .npz with {IMAGES} (uint8 images [N, H, W, 3])")
        if {"mu.npy", "sigma.npy"} <= set(names):
            raise InputError(f"{self.path} holds statistics (mu, sigma) and no images; expected {self.key} with uint8 images")
        held = [printable(name).removesuffix(".npy") for name in sorted(names)]
        choose = f"; name the images with `key={held[0]!r}`" if any(name.endswith(".npy") for name in names) else ""
        more = " …" if len(held) > 5 else ""
        raise InputError(
            f"{self.path} has no {self.key}; it holds {', '.join(held[:5]) or 'nothing'}{more}, expected {IMAGES} with the "
            f"images{choose}"
        )

    def _extent(self) -> tuple[int, int | None]:
        """Bytes of the array with its header, and where its data begin in the file; None if they are compressed."""
        if self._bare:
            return self.path.stat().st_size, self._header
        with open_archive(self.path) as archive:
            info = archive.getinfo(self._name(archive))
        stored = info.compress_type == zipfile.ZIP_STORED
        return info.file_size, _data_offset(self.path, info) + self._header if stored else None

    @functools.cached_property
    def _whole(self) -> NDArray[np.uint8]:
        with reading(self.path), self._open() as member:
            return np.ascontiguousarray(np.lib.format.read_array(member, allow_pickle=False))

    def _decompress(self, start: int, stop: int) -> NDArray[np.uint8]:
        # Kept open: a forward seek continues where the last piece ended, a new stream would start from the beginning.
        if self._member is None:
            archive = zipfile.ZipFile(self.path)
            self._member = archive.open(self._name(archive))
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


def npz_arrays(path: StrPath, keys: Sequence[str]) -> dict[str, NDArray]:
    """Those of ``keys`` that an npz holds, with their arrays.

    Arrays of Python objects are never unpickled, as that could run code: their elements are None.

    Raises:
        InputError: not a whole npz, or one of the arrays cannot be read.
    """
    found = {}
    with reading(path), open_archive(path) as archive:
        for key in keys:
            if f"{key}.npy" in archive.namelist():
                with open_member(archive, f"{key}.npy") as member:
                    found[key] = _read_array(member, archive.getinfo(f"{key}.npy").file_size)
    return found


def is_zip(path: StrPath) -> bool:
    """Whether a file is a zip archive, perhaps a damaged one."""
    try:
        return _head(path).startswith(b"PK") and zipfile.is_zipfile(path)  # a tar that holds a zip ends like one
    except OSError:
        return False
    except zipfile.BadZipFile:  # raised for some damages; opening it says more
        return True


def is_zip_of_images(path: StrPath) -> bool:
    """Whether a file is a zip that holds image files and no arrays."""
    if not is_zip(path):
        return False
    with reading(path), open_archive(path) as archive:
        names = archive.namelist()
    return any(map(is_image_name, names)) and not any(name.endswith(".npy") for name in names)


@contextmanager
def open_archive(path: StrPath) -> Iterator[zipfile.ZipFile]:
    """A zip archive.

    Raises:
        InputError: the file is something else, or its end is missing.
    """
    if not is_zip(path):
        kind = describe(_head(path))
        if kind.what == "a zip archive":
            raise InputError(f"{path} is not a whole .npz file (its end is missing); write or copy it again")
        remedy = "give the folder of the images, or an .npz" if kind.what.endswith(" image") else "write or copy it again"
        raise InputError(f"{path} is {kind.what}, not an .npz file; {kind.remedy or remedy}")
    with zipfile.ZipFile(path) as archive:
        yield archive


@contextmanager
def open_member(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    """A member of an archive.

    Raises:
        InputError: it is encrypted, or compressed by a method that Python does not read.
    """
    info = archive.getinfo(name)
    place = f"{archive.filename}: {printable(name)}"
    if info.flag_bits & 1:
        raise InputError(f"{place} is encrypted; save the file without a password")
    try:
        member = archive.open(info)
    except NotImplementedError:
        method = f"{_METHODS.get(info.compress_type, 'an unknown method')} (zip method {info.compress_type})"
        raise InputError(
            f"{place} is compressed with {method}, which Python does not read; pack it again with deflate, as "
            "numpy.savez_compressed does"
        ) from None
    with member:
        yield member


@contextmanager
def reading(path: StrPath) -> Iterator[None]:
    """Whatever zip, its decompressors and NumPy raise for a damaged file, as one line with its name.

    Errors of the file system keep their type.
    """
    try:
        yield
    except (InputError, MemoryError):
        raise
    except Exception as error:
        # bz2 raises an OSError without a number for damaged data, and a seek to a nonsensical place ends in EINVAL.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path} is damaged ({reason}); write or copy it again") from error


def large_uint8(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An array of zeros in memory pages of its own, which are returned to the system together with it.

    On the heap, pieces of a few megabytes that are freed between small results leave holes slightly too small for the next
    piece, until memory has grown to the size of the whole file.
    """
    return np.frombuffer(mmap.mmap(-1, max(1, math.prod(shape))), dtype=np.uint8)[: math.prod(shape)].reshape(shape)


def _remedy(shape: tuple[int, ...], dtype: np.dtype) -> str:
    """How an array becomes uint8 images ``[N, H, W, 3]``."""
    parts = []
    if dtype.kind == "f":
        parts.append("scale to 0 to 255, clamp, round and convert")
    elif dtype.kind in "iu" and dtype != np.uint8:
        parts.append("convert values of 0 to 255")
    if len(shape) == 4 and shape[1] == 3:
        parts.append("move the channels to the end: transpose(0, 2, 3, 1)")
    elif len(shape) == 3 and shape[2] == 3:
        parts.append("add the axis N, even for a single image")
    elif len(shape) == 3 or (len(shape) == 4 and shape[3] == 1):
        parts.append("repeat grey values in three channels")
    elif len(shape) == 4 and shape[3] == 4:
        parts.append("compose alpha onto a background")
    return "".join(f"; {part}" for part in parts)


def _head(path: StrPath) -> bytes:
    with open(path, "rb") as handle:
        return handle.read(HEAD)


def _array_header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(member)


def _read_array(member: IO[bytes], size: int) -> NDArray:
    """The array of a member of ``size`` bytes; nothing is allocated for more than it holds."""
    shape, fortran, dtype = _array_header(member)
    if dtype.hasobject:
        return np.broadcast_to(np.array(None, dtype=object), shape)
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize > size - member.tell():
        raise ValueError(f"an array of {dtype} {list(shape)} in {size} bytes")
    if count * dtype.itemsize > _MOST_BYTES:
        raise ValueError(f"an array of {dtype} {list(shape)} where no more than {_MOST_BYTES:,} bytes are expected")
    data = np.frombuffer(member.read(count * dtype.itemsize), dtype=dtype, count=count)
    return data.reshape(shape, order="F" if fortran else "C")


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
