"""Sheets of equal tiles for the side-by-side view: pictures of samples by class, cut from the records' grids."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from nvgbench.reporting.pictures import open_picture, png
from nvgbench.reporting.scores import ANCHOR
from nvgbench.results.schema import Artifact, RunRecord
from nvgbench.results.store import LocatedRecord

STRUCTURE = "structure"
"""Kind of a grid that shows the structure maps of the samples in the grid of kind ``samples``, tile by tile."""
IMAGES = "images"
"""A record's table with a row per tile: ``row``, ``column``, and scores of that image by name."""
SCORES = {"confidence": "confidence of the classifier", "nearest": "distance to the nearest real image"}
_SIDES = (96, 64, 48, 32)
_MOST_SHEETS = 12


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The tiles of one model, without gaps.

    Attributes:
        record: the evaluation they come from.
        rows: the class of each row.
        columns: tiles per row.
        side: of a tile as drawn, pixels.
        uri: data URI of the tiles.
        structure: data URI of their structure maps, tile by tile; empty if there are none.
        scores: name -> value per tile, row by row; None where unknown.
    """

    record: RunRecord
    rows: tuple[str, ...]
    columns: int
    side: int
    uri: str
    structure: str
    scores: Mapping[str, Sequence[float | None]]


@dataclass(frozen=True)
class _Grid:
    """A grid of samples as it is on disk."""

    record: RunRecord
    rows: tuple[str, ...]
    tiles: list[Image.Image]
    structure: list[Image.Image]

    @property
    def columns(self) -> int:
        return len(self.tiles) // len(self.rows)


def load_sheets(located: Sequence[LocatedRecord], budget: int) -> list[Sheet]:
    """The sheets of all models whose grids have the same rows, the rows that most have; none if there are fewer than two.

    Tiles are scaled down until all sheets together have at most ``budget`` bytes of PNG; there are none if the smallest exceed
    it.
    """
    grids = list(_grids(located))
    common = Counter((grid.rows, grid.columns) for grid in grids).most_common(1)
    grids = [grid for grid in grids if (grid.rows, grid.columns) == common[0][0]][:_MOST_SHEETS]
    if len(grids) < 2:
        return []
    for side in _SIDES:
        contents = [(_joined(grid.tiles, grid.columns, side), _joined(grid.structure, grid.columns, side)) for grid in grids]
        if sum(len(content) for pair in contents for content in pair) <= budget:
            return [_sheet(grid, side, *pair) for grid, pair in zip(grids, contents, strict=True)]
    return []


def _grids(located: Sequence[LocatedRecord]) -> Iterator[_Grid]:
    """For each model, the tiles of the newest record that has a grid by class."""
    newest: dict[str, tuple[LocatedRecord, Artifact]] = {}
    for one in located:
        if one.record.family == ANCHOR:
            continue
        for artifact in one.record.artifacts:
            known = newest.get(one.record.subject)
            if (
                artifact.kind == "samples"
                and artifact.rows
                and (known is None or one.record.created >= known[0].record.created)
            ):
                newest[one.record.subject] = one, artifact
    for one, artifact in newest.values():
        tiles = _tiles(one, artifact)
        maps = next((found for found in one.record.artifacts if found.kind == STRUCTURE and found.rows == artifact.rows), None)
        if tiles:
            structure = [] if maps is None else _tiles(one, maps)
            yield _Grid(one.record, artifact.rows, tiles, structure if len(structure) == len(tiles) else [])


def _tiles(located: LocatedRecord, artifact: Artifact) -> list[Image.Image]:
    """The tiles of a grid with two pixels around each, row by row; none if the picture is not such a grid."""
    image, _ = open_picture(located, artifact)
    if image is None:
        return []
    pitch, rest = divmod(image.height - 2, len(artifact.rows))
    columns, left = divmod(image.width - 2, pitch) if pitch > 2 else (0, 1)
    if rest or left or not columns:
        return []
    places = [(2 + column * pitch, 2 + row * pitch) for row in range(len(artifact.rows)) for column in range(columns)]
    return [image.crop((x, y, x + pitch - 2, y + pitch - 2)) for x, y in places]


def _joined(tiles: Sequence[Image.Image], columns: int, side: int) -> bytes:
    """The tiles as one PNG, scaled down to ``side`` if they are larger; empty without tiles."""
    if not tiles:
        return b""
    side = min(side, tiles[0].width)
    sheet = Image.new("RGB", (columns * side, len(tiles) // columns * side))
    for number, tile in enumerate(tiles):
        drawn = tile if tile.width == side else tile.resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(drawn, (number % columns * side, number // columns * side))
    return png(sheet)


def _sheet(grid: _Grid, side: int, tiles: bytes, structure: bytes) -> Sheet:
    places: dict[tuple[Any, Any], Mapping[str, Any]] = {
        (row.get("row"), row.get("column")): row for row in grid.record.tables.get(IMAGES, ())
    }
    order = [(row, column) for row in range(len(grid.rows)) for column in range(grid.columns)]
    scores = {name: [_number(places.get(place, {}).get(name)) for place in order] for name in SCORES}
    return Sheet(
        record=grid.record,
        rows=grid.rows,
        columns=grid.columns,
        side=min(side, grid.tiles[0].width),
        uri=_uri(tiles),
        structure=_uri(structure),
        scores={name: values for name, values in scores.items() if any(value is not None for value in values)},
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _uri(content: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(content).decode('ascii')}" if content else ""
