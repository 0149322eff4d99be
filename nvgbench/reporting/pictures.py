"""Artifact files as data URIs of the page, within a budget of bytes."""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from nvgbench.results.schema import Artifact
from nvgbench.results.store import LocatedRecord

_SMALLEST_SIDE = 32


@dataclass(frozen=True, kw_only=True)
class Picture:
    """An artifact as the page shows it.

    Attributes:
        subject: whose picture it is.
        kind: the artifact's kind.
        caption: one line.
        uri: data URI of a PNG; empty if the file cannot be shown, and then ``note`` says why.
        width, height: of the original, pixels.
        rows: what each row of a grid shows, from the top; empty if the rows have no names.
        scale: whole number by which the page enlarges it.
        note: for the reader: scaled down, missing …
    """

    subject: str
    kind: str
    caption: str
    uri: str = ""
    rows: tuple[str, ...] = ()
    width: int = 0
    height: int = 0
    scale: int = 1
    note: str = ""


def load_pictures(wanted: Sequence[tuple[LocatedRecord, Artifact]], budget: int) -> list[Picture]:
    """Read artifacts in order, each picture of a kind once.

    If they exceed ``budget`` bytes of PNG (Base64 adds a third in the page), the largest are scaled down, with a note.
    """
    images: list[Image.Image | None] = []
    data: list[bytes] = []
    pictures: list[Picture] = []
    seen: set[tuple[str, bytes]] = set()
    for located, artifact in wanted:
        picture = Picture(
            subject=located.record.subject, kind=artifact.kind, caption=artifact.caption or artifact.kind, rows=artifact.rows
        )
        image, note = open_picture(located, artifact)
        content = b"" if image is None else png(image)
        if content and (artifact.kind, content) in seen:
            continue  # The records of models with the same reference all have its picture.
        seen.add((artifact.kind, content))
        images.append(image)
        data.append(content)
        if image is not None:
            picture = dataclasses.replace(
                picture, width=image.width, height=image.height, scale=max(1, min(4, 560 // image.width))
            )
        pictures.append(dataclasses.replace(picture, note=note))
    while sum(map(len, data)) > budget:
        index = max(range(len(data)), key=lambda i: len(data[i]))
        image = images[index]
        if image is None or min(image.size) <= _SMALLEST_SIDE:
            data[index], images[index] = b"", None
            pictures[index] = dataclasses.replace(pictures[index], note="omitted: too large for this page")
            continue
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)
        images[index], data[index] = image, png(image)
        note = f"shown at {image.width} x {image.height} of {pictures[index].width} x {pictures[index].height} pixels"
        pictures[index] = dataclasses.replace(pictures[index], note=note, scale=1)
    return [dataclasses.replace(picture, uri=_uri(content)) for picture, content in zip(pictures, data, strict=True)]


def open_picture(located: LocatedRecord, artifact: Artifact) -> tuple[Image.Image | None, str]:
    """The picture, or None and the reason."""
    folder = located.file.parent.resolve()
    path = located.artifact_path(artifact.path).resolve()
    # A record may come from anywhere: it must not bring other files of this machine into the page.
    if not path.is_relative_to(folder):
        return None, f"not shown: {artifact.path} is outside the folder of its record"
    if not Path(path).is_file():
        return None, f"missing file: {artifact.path}"
    try:
        with Image.open(path) as image:
            image.load()
            return image.convert("RGB"), ""
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None, f"not a readable picture: {artifact.path}"


def png(image: Image.Image) -> bytes:
    """The content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}" if content else ""
