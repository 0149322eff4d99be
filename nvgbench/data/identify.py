"""What a file is that is not what was expected, from its first bytes."""

from __future__ import annotations

import codecs
from typing import NamedTuple

HEAD = 512
"""Bytes that `describe` looks at."""


class Kind(NamedTuple):
    """A kind of file, such as ``a PNG image``, and what to do if it is not what was expected."""

    what: str
    remedy: str = ""


_POINTERS = (
    (b"version https://git-lfs.github.com/", Kind("a Git LFS pointer instead of the file itself", "run 'git lfs pull'")),
    (b"/annex/objects/", Kind("a git-annex pointer instead of the file itself", "run 'git annex get'")),
)
_UNPACK = "unpack it and give the folder"
_CONVERT = "save its images as an .npz or as image files"
_SIGNATURES = (
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\x00", "an xz archive", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x89HDF\r\n", "an HDF5 file", _CONVERT),
    (b"PAR1", "a Parquet file", _CONVERT),
    (b"ARROW1", "an Arrow file", _CONVERT),
    (b"SQLite format 3", "an SQLite database", _CONVERT),
    (b"MATLAB ", "a MATLAB file", _CONVERT),
    (b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (b"BM", "a BMP image"),
    (b"%PDF", "a PDF document", _CONVERT),
    (b"\x80\x02", "a Python pickle", _CONVERT),
    (b"\x80\x03", "a Python pickle", _CONVERT),
    (b"\x80\x04", "a Python pickle", _CONVERT),
    (b"\x80\x05", "a Python pickle", _CONVERT),
)


def describe(head: bytes) -> Kind:
    """What a file that begins with ``head`` is."""
    if not head:
        return Kind("an empty file")
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return Kind("an HTML page", "download the file again; this is the page of an error or a login")
    for beginning, pointer in _POINTERS:
        if head.startswith(beginning):
            return pointer
    for beginning, *kind in _SIGNATURES:
        if head.startswith(beginning):
            return Kind(*kind)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Kind("a WebP image")
    if head[257:262] == b"ustar":
        return Kind("a tar archive", _UNPACK)
    if head[4:8] == b"ftyp":
        return Kind("an AVIF image" if head[8:12] == b"avif" else "a video or HEIF image")
    if head[8:10] == b'{"' and int.from_bytes(head[:8], "little") < 1 << 32:
        return Kind("a safetensors file", _CONVERT)
    return Kind("a text file" if _is_text(head) else "of an unknown format")


def printable(name: str) -> str:
    """A name without the line breaks and control characters that a file or a member of an archive may have in it."""
    return "".join(character if character.isprintable() else "?" for character in name)


def _is_text(head: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(head)  # the head may end inside a character
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\r\n" for character in text)
