"""Models side by side, image by image: the same classes in the same order, and what differs in the configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nvgbench.reporting.configurations import difference_table
from nvgbench.reporting.data import for_page
from nvgbench.reporting.sheets import SCORES, Sheet, load_sheets
from nvgbench.reporting.tables import Table
from nvgbench.results.store import LocatedRecord

_SIDE = 96
"""Side to which smaller tiles are enlarged, pixels of the page."""


@dataclass(frozen=True, kw_only=True)
class SideBySide:
    """The section.

    Attributes:
        sheets: one per model.
        rows: classes, shared by all sheets.
        zoom: by which tiles are enlarged.
        differences: settings that differ.
        seeds: a sentence about the seeds of the images.
        data: what the page's script needs, as JSON that is safe inside a script element.
    """

    sheets: Sequence[Sheet]
    rows: tuple[str, ...]
    zoom: float
    differences: Table | None
    seeds: str
    data: str


def side_by_side(located: Sequence[LocatedRecord], budget: int) -> SideBySide | None:
    """The section, with at most ``budget`` bytes of pictures; None if fewer than two models have grids of the same classes."""
    sheets = load_sheets(located, budget)
    if not sheets:
        return None
    document = {
        "rows": sheets[0].rows,
        "columns": sheets[0].columns,
        "first": _first_pair(sheets),
        "scores": {name: text for name, text in SCORES.items() if any(name in sheet.scores for sheet in sheets)},
        "models": [
            {"subject": sheet.record.subject, "structure": bool(sheet.structure), "scores": sheet.scores} for sheet in sheets
        ],
    }
    return SideBySide(
        sheets=sheets,
        rows=sheets[0].rows,
        zoom=max(1.0, _SIDE / sheets[0].side),
        differences=difference_table([sheet.record for sheet in sheets], [one.record for one in located]),
        seeds=_seeds(sheets),
        data=for_page(document),
    )


def _first_pair(sheets: Sequence[Sheet]) -> list[int]:
    """The two models that are shown first: the best two of one sampling seed, else the best two."""
    seeds = [_seed(sheet) for sheet in sheets]
    pairs = [[a, b] for a in range(len(sheets)) for b in range(a + 1, len(sheets)) if seeds[a] == seeds[b] != "unknown"]
    return next(iter(pairs), [0, 1])


def _seed(sheet: Sheet) -> str:
    seeds = sheet.record.provenance.get("seeds")
    seed = seeds.get("sampling") if isinstance(seeds, Mapping) else None
    return "unknown" if seed is None else str(seed)


def _seeds(sheets: Sequence[Sheet]) -> str:
    """Whether images at the same place have the same seed."""
    by_seed: dict[str, list[str]] = {}
    for sheet in sheets:
        by_seed.setdefault(_seed(sheet), []).append(sheet.record.subject)
    if len(by_seed) == 1 and "unknown" not in by_seed:
        return f"Images at the same place have the same class and the same seed (sampling seed {next(iter(by_seed))})."
    listed = "; ".join(f"{seed}: {', '.join(subjects)}" for seed, subjects in by_seed.items())
    same = "Images at the same place have the same class; only those of equal sampling seeds have the same seed"
    return f"{same} (sampling seed {listed})."
