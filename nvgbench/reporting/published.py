"""Numbers from the papers, shown beside measured ones and never mixed with them."""

from __future__ import annotations

import csv
import importlib.resources
import io
import re
from collections.abc import Iterable
from dataclasses import dataclass

SENTENCE = (
    "These numbers are quoted from the papers (ImageNet, 256 px, 50,000 samples). None of them was measured here; scores of "
    "other data, sizes or feature extractors are not comparable with them."
)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A row of ``published_results.csv``: text as printed, empty if the paper gives nothing.

    Attributes:
        table: the NVG paper's table: 1 generation, 2 tokenizers, 4 runtime at batch 1.
    """

    table: str
    family: str
    model: str
    fid: str
    is_: str
    precision: str
    recall: str
    params: str
    train: str
    steps: str
    time_s: str
    memory_mib: str
    rfid: str
    lpips: str
    tokens: str
    codebook: str
    usage: str
    note: str


def published_results() -> list[Published]:
    """All published numbers that come with the package."""
    file = importlib.resources.files("nvgbench.reporting").joinpath("assets", "published_results.csv")
    rows = csv.DictReader(io.StringIO(file.read_text(encoding="utf-8")))
    return [Published(**{("is_" if key == "is" else key): value for key, value in row.items()}) for row in rows]


def match_published(preset: str, rows: Iterable[Published]) -> Published | None:
    """The published generation result of the model that ``preset`` reproduces: same family, same depth.

    ``nvg-d16`` and ``nvg-d16-shapes`` match ``NVG-d16``; presets without a published depth in their name match nothing.
    """
    found = re.match(r"(?P<model>[a-z]+-d\d+)(?![a-z0-9])", preset.lower())
    if found is None:
        return None
    return next((row for row in rows if row.table == "1" and row.model.lower() == found["model"]), None)
