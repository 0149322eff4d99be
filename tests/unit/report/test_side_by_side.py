from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nvgbench.reporting.build import render_report
from nvgbench.reporting.configurations import difference_table
from nvgbench.reporting.sheets import load_sheets
from nvgbench.results.schema import Artifact, RunRecord
from nvgbench.results.store import LocatedRecord
from tests.helpers.report_records import EXTRACTOR, provenance, scores

ROWS, COLUMNS = ("cat", "dog"), 3


def write_grid(path: Path, side: int, first: int) -> None:
    """Tiles of one grey each, ``first`` and the following, with two white pixels around."""
    sheet = np.full((2 + len(ROWS) * (side + 2), 2 + COLUMNS * (side + 2), 3), 255, dtype=np.uint8)
    for number in range(len(ROWS) * COLUMNS):
        y, x = 2 + number // COLUMNS * (side + 2), 2 + number % COLUMNS * (side + 2)
        sheet[y : y + side, x : x + side] = first + number
    Image.fromarray(sheet).save(path)


def model(folder: Path, name: str, first: int, *, side: int = 8, seed: int = 0, maps: bool = False, **changes) -> LocatedRecord:
    write_grid(folder / f"{name}.png", side, first)
    artifacts = [Artifact(kind="samples", path=f"{name}.png", rows=ROWS)]
    if maps:
        write_grid(folder / f"{name}-maps.png", side, first + 100)
        artifacts.append(Artifact(kind="structure", path=f"{name}-maps.png", rows=ROWS))
    places = [(row, column) for row in range(len(ROWS)) for column in range(COLUMNS)]
    images = [{"row": r, "column": c, "confidence": (first + i) / 100} for i, (r, c) in enumerate(places)]
    about = provenance(extractor=EXTRACTOR, seeds={"sampling": seed}, settings={"top_k": 0, "guidance": [1, first]})
    record = RunRecord(
        kind="eval", subject=name, family="nvg", metrics=scores(float(first)), provenance=about,
        artifacts=tuple(artifacts), tables={"images": images},
    )  # fmt: skip
    return LocatedRecord(dataclasses.replace(record, **changes), folder / "records.jsonl", 1)


def tiles(uri: str, side: int) -> list[int]:
    """The grey of each tile."""
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    assert image.size == (COLUMNS * side, len(ROWS) * side)
    pixels = np.asarray(image)
    return [int(pixels[y * side + side // 2, x * side + side // 2, 0]) for y in range(len(ROWS)) for x in range(COLUMNS)]


def test_tiles_are_cut_from_the_grids(tmp_path: Path) -> None:
    sheets = load_sheets([model(tmp_path, "a", 10, maps=True), model(tmp_path, "b", 20)], 10**6)
    assert [sheet.record.subject for sheet in sheets] == ["a", "b"]
    assert tiles(sheets[0].uri, 8) == [10, 11, 12, 13, 14, 15]
    assert tiles(sheets[0].structure, 8) == [110, 111, 112, 113, 114, 115]
    assert sheets[1].structure == ""
    assert sheets[1].scores == {"confidence": [0.2, 0.21, 0.22, 0.23, 0.24, 0.25]}


def test_large_tiles_are_scaled_until_they_fit(tmp_path: Path) -> None:
    models = [model(tmp_path, "a", 10, side=128), model(tmp_path, "b", 20, side=128)]
    assert load_sheets(models, 10**6)[0].side == 96
    assert tiles(load_sheets(models, 10**6)[0].uri, 96) == [10, 11, 12, 13, 14, 15]
    assert load_sheets(models, 10) == []


def test_only_grids_of_the_same_classes_are_shown(tmp_path: Path) -> None:
    one, two = model(tmp_path, "a", 10), model(tmp_path, "b", 20)
    assert load_sheets([one], 10**6) == []
    broken = model(tmp_path, "c", 30)
    Image.new("RGB", (50, 47)).save(tmp_path / "c.png")
    anchor = model(tmp_path, "real images", 40, family="anchor")
    unnamed = model(tmp_path, "d", 50, artifacts=(Artifact(kind="samples", path="d.png"),))
    assert [sheet.record.subject for sheet in load_sheets([one, two, broken, anchor, unnamed], 10**6)] == ["a", "b"]


def test_only_settings_that_differ_are_listed(tmp_path: Path) -> None:
    a, b = model(tmp_path, "a", 10).record, model(tmp_path, "b", 20, seed=3).record
    table = difference_table([a, b], [a, b])
    assert table is not None
    assert [[cell.text for cell in row] for row in table.groups[0].rows] == [
        ["sampling.guidance", "[1, 10]", "[1, 20]"],
        ["seed of sampling", "0", "3"],
    ]
    assert difference_table([a, dataclasses.replace(a, subject="c")], [a]) is None


def test_the_page_has_every_image_without_scripts(tmp_path: Path) -> None:
    models = [model(tmp_path, "a", 10, maps=True), model(tmp_path, "b", 20), model(tmp_path, "c", 30, seed=1)]
    page = render_report(models, tmp_path / "r.html").read_text(encoding="utf-8")
    section = page[page.index('<section id="side-by-side"') :].partition("</section>")[0]
    assert section.count('class="strip"') == len(ROWS) * 3
    assert section.count("tiles structure-0") == len(ROWS)
    assert "only those of equal sampling seeds have the same seed (sampling seed 0: a, b; 1: c)" in section
    data = json.loads(re.search(r'id="nvgbench-side-by-side">(.*?)</script>', section, re.DOTALL)[1])
    assert data["first"] == [0, 1]
    assert data["rows"] == list(ROWS)
    assert [one["structure"] for one in data["models"]] == [True, False, False]


@pytest.mark.parametrize("seeds", [(0, 1, 1), (0, 1, 2)])
def test_the_first_pair_has_one_seed_if_possible(tmp_path: Path, seeds: tuple[int, int, int]) -> None:
    models = [model(tmp_path, name, 10, seed=seed) for name, seed in zip("abc", seeds, strict=True)]
    page = render_report(models, tmp_path / "r.html").read_text(encoding="utf-8")
    assert f'"first":{"[1,2]" if seeds[1] == seeds[2] else "[0,1]"}' in page
