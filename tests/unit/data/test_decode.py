"""One image file to pixels: every format, mode and depth, and one line for what cannot be read."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nvgbench.data.decode import read_header, read_image
from nvgbench.data.files import SUFFIXES
from nvgbench.data.remarks import Notes
from nvgbench.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
RAMP = np.indices((24, 24)).sum(axis=0) * 255 / 46
"""Grey from 0 to 255."""


def read(path: Path) -> tuple[np.ndarray, list[str]]:
    notes = Notes()
    pixels = read_image(path, notes)
    return pixels, [remark.text for remark in notes.remarks()]


def deep_png(pixels_hwc: np.ndarray) -> bytes:
    """A PNG of 16 bits per channel, RGB or RGBA, which Pillow cannot write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = pixels_hwc.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels_hwc)
    header = struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", sorted(SUFFIXES - {".avifs", ".psd", ".ras", ".xpm"}))  # the others Pillow cannot write
def test_every_suffix_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    image = Image.fromarray(PIXELS)
    if suffix in (".pbm", ".xbm"):
        image = image.convert("1")
    elif suffix in (".pgm", ".bw"):
        image = image.convert("L")
    elif suffix == ".pfm":
        image = Image.fromarray((RAMP / 255).astype(np.float32))
    image.save(path)
    pixels, _ = read(path)
    assert (pixels.shape, pixels.dtype) == ((24, 24, 3), np.uint8)
    header = read_header(path)
    assert (header.width, header.height) == (24, 24)
    if suffix in (".png", ".bmp", ".tif", ".tga", ".ppm", ".qoi", ".j2k"):
        assert np.array_equal(pixels, PIXELS)


@pytest.mark.parametrize("mode", ["L", "1", "CMYK", "RGBA", "LA", "P", "I;16", "YCbCr"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str):
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), 0x8040, dtype=np.uint16))
        expected = 0x80
    else:
        expected = 0 if mode == "1" else 128
        image = Image.fromarray(np.full((8, 8), expected, dtype=np.uint8)).convert(mode)
    path = tmp_path / f"x.{'tif' if mode in ('CMYK', 'YCbCr', 'I;16') else 'png'}"
    image.save(path)
    pixels = read_image(path)
    assert pixels.shape == (8, 8, 3)
    assert pixels.dtype == np.uint8
    # 2: colour conversion there and back.
    assert np.abs(pixels.astype(int) - expected).max() <= 2


def test_transparency_is_laid_on_white(tmp_path: Path):
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save(tmp_path / "x.png")
    assert (read_image(tmp_path / "x.png") == 255).all()


def test_a_cut_file_is_named(tmp_path: Path):
    path = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(InputError, match=r"cut\.jpg cannot be read as an image \(.*truncated.*\); replace or remove"):
        read_image(path)


@pytest.mark.parametrize(
    ("name", "values", "note"),
    [
        ("01.tif", (RAMP / 255).astype(np.float32), "of floats, read as 0 to 1"),
        ("255.tif", RAMP.astype(np.float32), "of floats, read as 0 to 255"),
        ("32.tif", RAMP.astype(np.int32), "read as 8 bits"),
        ("12.png", (RAMP * 16).astype(np.uint16), "read as 12 bits"),
        ("16.png", (RAMP * 257).astype(np.uint16), "read as 16 bits"),
        ("16.tif", (RAMP * 257).astype(np.uint16), "read as 16 bits"),
        ("8.png", RAMP.astype(np.uint16), "read as 8 bits"),
    ],
)
def test_other_depths_are_brought_to_8_bits(tmp_path: Path, name: str, values: np.ndarray, note: str) -> None:
    Image.fromarray(values).save(tmp_path / name)
    pixels, notes = read(tmp_path / name)
    # 1: floats are rounded, integers are cut
    assert np.abs(pixels.astype(int) - RAMP[:, :, None]).max() <= 1
    assert len(notes) == 1
    assert note in notes[0]
    assert name in notes[0]


@pytest.mark.parametrize(("scale", "bits"), [(1, 8), (16, 12), (257, 16)])
def test_colours_of_16_bits(tmp_path: Path, scale: int, bits: int) -> None:
    (tmp_path / "x.png").write_bytes(deep_png(PIXELS.astype(np.uint16) * scale))
    pixels, notes = read(tmp_path / "x.png")
    assert np.array_equal(pixels, PIXELS)
    assert f"read as {bits} bits" in notes[0]


def test_colours_of_16_bits_with_alpha(tmp_path: Path) -> None:
    opaque = np.full((24, 24, 1), 65535, dtype=np.uint16)
    (tmp_path / "x.png").write_bytes(deep_png(np.concatenate([PIXELS.astype(np.uint16) * 257, opaque], axis=2)))
    assert np.array_equal(read(tmp_path / "x.png")[0], PIXELS)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((RAMP - 3).astype(np.float32), "floats from -3 to 252; expected 0 to 1, or 0 to 255"),
        ((RAMP * 2).astype(np.float32), "floats from 0 to 510"),
        (np.where(RAMP > 200, np.nan, RAMP).astype(np.float32), "floats from nan"),
        ((RAMP * 1000).astype(np.int32), "integers from 0 to 255000; expected 0 to 255, 0 to 4095 or 0 to 65535"),
        ((RAMP - 3).astype(np.int32), "integers from -3"),
    ],
)
def test_values_without_a_known_range_are_refused(tmp_path: Path, values: np.ndarray, said: str) -> None:
    Image.fromarray(values).save(tmp_path / "x.tif")
    with pytest.raises(InputError, match=said):
        read_image(tmp_path / "x.tif")


def test_alpha_is_noted_only_if_something_is_transparent(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS).convert("RGBA")
    image.save(tmp_path / "opaque.png")
    assert read(tmp_path / "opaque.png")[1] == []
    image.putalpha(Image.new("L", (24, 24), 254))
    image.save(tmp_path / "x.png")
    notes = Notes()
    for _ in range(2):  # an image that is read twice counts once
        read_image(tmp_path / "x.png", notes)
    assert [str(remark) for remark in notes.remarks()] == [
        f"images: 1 image with transparent pixels, laid on white ({tmp_path / 'x.png'})"
    ]


def test_the_first_of_several_frames_is_read(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(
        tmp_path / "x.webp", lossless=True, save_all=True, append_images=[Image.fromarray(PIXELS[::-1].copy())]
    )
    pixels, notes = read(tmp_path / "x.webp")
    assert np.array_equal(pixels, PIXELS)
    assert "with several frames, of which the first is read" in notes[0]


@pytest.mark.parametrize(
    ("name", "options", "lossy"),
    [
        ("x.jpg", {}, True),
        ("x.jfif", {}, True),
        ("x.avif", {}, True),
        ("x.webp", {}, True),
        ("x.webp", {"lossless": True}, False),
        ("x.webp", {"lossless": True, "icc_profile": b"x" * 9}, False),
        ("x.webp", {"lossless": True, "save_all": True, "append_images": [Image.new("RGB", (24, 24))]}, False),
        ("x.webp", {"save_all": True, "append_images": [Image.new("RGB", (24, 24))]}, True),
        ("x.jp2", {}, False),
        ("x.j2k", {"irreversible": True}, True),
        ("x.tif", {}, False),
        ("x.tif", {"compression": "jpeg"}, True),
        ("x.png", {}, False),
        ("x.gif", {}, False),
    ],
)
def test_lossy_formats_are_told_by_content(tmp_path: Path, name: str, options: dict, lossy: bool) -> None:
    Image.fromarray(PIXELS).save(tmp_path / name, **options)
    assert read_header(tmp_path / name).lossy == lossy
    (tmp_path / name).rename(tmp_path / "renamed.png")
    assert read_header(tmp_path / "renamed.png").lossy == lossy


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an empty file"),
        (b"<!DOCTYPE html><html>Sign in</html>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer .*; run 'git lfs pull'"),
        (b"../../.git/annex/objects/x", "a text file"),
        (b"/annex/objects/SHA256E-s1--0.png\n", "a git-annex pointer .*; run 'git annex get'"),
        (b"PK\x03\x04rest", "a zip archive"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "a text file"),  # Pillow would start Ghostscript
        (bytes(range(256)), "of an unknown format"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path: Path, content: bytes, said: str) -> None:
    for suffix in ("png", "tga"):
        (tmp_path / f"x.{suffix}").write_bytes(content)
        for read_file in (read_header, read_image):
            with pytest.raises(InputError, match=f"x.{suffix} cannot be read as an image: it is {said}"):
                read_file(tmp_path / f"x.{suffix}")


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.png cannot be read as an image \(No such file"):
        read_image(tmp_path / "x.png")
    with pytest.raises(InputError, match=r"cannot be read as an image \(Is a directory"):
        read_image(tmp_path)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9000, 12_000, 20_000])
def test_decompression_bombs_are_refused(tmp_path: Path, side: int) -> None:
    """Twelve kilobytes and more that would be 0.2 to 1.2 GB; Pillow itself refuses the largest only."""
    Image.new("1", (side, side)).save(tmp_path / "x.png")
    for read_file in (read_header, read_image):
        with pytest.raises(InputError, match=r"x\.png .*(more than the limit|could be decompression bomb)"):
            read_file(tmp_path / "x.png")


def test_huge_text_chunks_are_refused(tmp_path: Path) -> None:
    text = PngInfo()
    text.add_text("comment", "x" * (3 << 20), zip=True)
    Image.fromarray(PIXELS).save(tmp_path / "x.png", pnginfo=text)
    with pytest.raises(InputError, match=r"x\.png cannot be read as an image \(Decompressed data too large"):
        read_header(tmp_path / "x.png")
