"""A study's record on a terminal: its findings, and its tables one line per row or one column per number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nvgbench.results.schema import RunRecord
from nvgbench.results.study import study_page

_MOST_ROWS = 60
_MOST_MEANS = 2


def show_study(record: RunRecord) -> None:
    """Print what the study found."""
    from rich.console import Console

    console, page = Console(), study_page(record)
    assert page is not None
    for name in page.tables:
        console.print(study_table(name, record.tables[name]))
        console.print()
    for finding in page.findings:
        word = "" if finding.verdict == "measured" else f"{finding.verdict}: "
        console.print(f"{word}{finding.text}", markup=False, highlight=False, soft_wrap=True)
    if page.limits:
        console.print(page.limits, markup=False, highlight=False, soft_wrap=True)


def study_table(name: str, rows: Sequence[dict[str, Any]]) -> Any:
    """The rows of one table; those over numbers of tokens have one line per setting and one column per number."""
    from rich.table import Table

    if rows and all("tokens" in row and any(key.endswith("_mean") for key in row) for row in rows):
        return _by_tokens(name, rows)
    shown = rows[:_MOST_ROWS]
    keys = [key for key in dict.fromkeys(key for row in shown for key in row) if not _is_idle(key, rows)]
    title = name if len(shown) == len(rows) else f"{name} (first {len(shown)} of {len(rows)} rows)"
    table = Table(*keys, title=title, box=None, title_justify="left")
    for row in shown:
        table.add_row(*(_text(row.get(key)) for key in keys))
    return table


def _by_tokens(name: str, rows: Sequence[dict[str, Any]]) -> Any:
    """Means side by side, without their intervals, which are in the record."""
    from rich.table import Table

    means = [key for key in rows[0] if key.endswith("_mean")][:_MOST_MEANS]
    heads = [
        key
        for key, value in rows[0].items()
        if key not in ("stage", "seed", "run") and isinstance(value, str) and not _is_idle(key, rows)
    ]
    tokens = sorted({row["tokens"] for row in rows})
    cells: dict[tuple[str, ...], dict[int, str]] = {}
    for row in rows:
        place = tuple(str(row[key] or "") for key in heads)
        cells.setdefault(place, {})[row["tokens"]] = " ".join(short(row[mean]) for mean in means)
    measures = " ".join(mean.removesuffix("_mean") for mean in means)
    table = Table(*heads, *map(str, tokens), title=f"{name} by tokens: {measures}", box=None, title_justify="left")
    for place, found in cells.items():
        table.add_row(*place, *(found.get(count, "") for count in tokens))
    return table


def _is_idle(key: str, rows: Sequence[dict[str, Any]]) -> bool:
    """Whether the column only repeats which single run all rows are about."""
    return key in ("variant", "seed", "run") and len({row.get(key) for row in rows}) == 1


def _text(value: Any) -> str:
    from rich.markup import escape

    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def short(score: float | None) -> str:
    """Two decimals without the leading zero; narrow enough for seven stages with two scores each."""
    if score is None:
        return "-"
    text = f"{round(score, 2) + 0.0:.2f}"
    return "1" if text == "1.00" else text.replace("0.", ".", 1)
