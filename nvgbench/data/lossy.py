"""Whether an image file keeps its pixels exactly, as far as its header tells."""

from __future__ import annotations

from typing import IO

from PIL import Image


def is_lossy(image: Image.Image, handle: IO[bytes]) -> bool:
    """Whether the format of an opened image has changed the pixels; ``handle`` is its file.

    JPEG and AVIF always; TIFF if it holds JPEG or WebP; WebP unless its frames are VP8L (RFC 9649); JPEG 2000 with the
    irreversible transform (ISO/IEC 15444-1, A.6.1).
    """
    if image.format == "TIFF":
        return image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")
    if image.format == "WEBP":
        return not _is_lossless_webp(handle)
    if image.format == "JPEG2000":
        return _is_irreversible(handle)
    return image.format in ("JPEG", "MPO", "AVIF")


def _is_lossless_webp(handle: IO[bytes]) -> bool:
    """A WebP is RIFF chunks: four letters, a size, that many bytes (padded to an even number)."""
    handle.seek(12)
    while len(header := handle.read(8)) == 8:
        kind, size = header[:4], int.from_bytes(header[4:], "little")
        if kind in (b"VP8L", b"VP8 ", b"ANMF"):
            if kind == b"ANMF":  # 16 bytes about the frame, then its chunks
                kind = handle.read(20)[16:]
            return kind == b"VP8L"
        handle.seek(size + size % 2, 1)
    return False


def _is_irreversible(handle: IO[bytes]) -> bool:
    """Byte 13 of the COD marker segment (FF52) of a JPEG 2000 codestream: 0 for the 9-7 transform, 1 for the 5-3."""
    handle.seek(0)
    start = handle.read(1 << 16)
    cod = start.find(b"\xff\x52", max(0, start.find(b"\xff\x4f\xff\x51")))
    return cod < 0 or start[cod + 13 : cod + 14] != b"\x01"
