"""What a file is that is not what was expected, from its first bytes."""

from __future__ import annotations

HEAD = 512
"""Bytes that `describe` looks at."""

_BEGINNINGS = (
    (b"version https://git-lfs.github.com/", "a Git LFS pointer instead of the file itself; run 'git lfs pull'"),
    (b"/annex/objects/", "a git-annex pointer instead of the file itself; run 'git annex get'"),
    (b"\x89PNG\r\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"II*\x00", "a TIFF image"),
    (b"MM\x00*", "a TIFF image"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"PAR1", "a Parquet file"),
    (b"%PDF", "a PDF document"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
)


def describe(head: bytes) -> str | None:
    """What a file that begins with ``head`` is, such as ``a PNG image``; None if it cannot be told."""
    if not head:
        return "an empty file"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        return "an HTML page, such as the error page of a download; download the file again"
    for beginning, what in _BEGINNINGS:
        if head.startswith(beginning):
            return what
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "a WebP image"
    if head[257:262] == b"ustar":
        return "a tar archive"
    try:
        text = head.decode()
    except UnicodeDecodeError:
        return None
    return "a text file" if text.isprintable() or all(c.isprintable() or c in "\t\r\n" for c in text) else None
