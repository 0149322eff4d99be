"""Static SVG charts in the page's light and dark colours.

matplotlib draws with placeholder colours, which are replaced by CSS variables; text stays text in the page's font. Titles are
HTML above the drawing, where they wrap. Marks and labels of a model have the attribute ``data-model``.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from html import escape
from urllib.parse import quote, unquote

import matplotlib
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

# Okabe and Ito's colours, distinguishable with any common colour blindness; the page's style sheet has a variant of each that
# contrasts with its background.
_SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_DASHES = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 2, 1, 2)), (0, (8, 2)), (0, (3, 1, 1, 1, 1, 1)))
_MARKERS = ("o", "s", "^", "D", "v", "P")
_INK, _GRID = "#010203", "#040506"
_PANEL = (3.6, 2.2)
"""Size of a small panel, inches; 72 units per inch in the drawing."""
_WIDE = 5.2
"""Width of other charts, inches; wider ones would have tiny text on a phone."""
_ENLARGED = 1.6
"""Largest size on the page, pixels per unit of the drawing."""
_MODEL = "model:"
"""Prefix of the group ids that become ``data-model`` attributes."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A series of a line chart, with a band from ``low`` to ``high`` if given."""

    label: str
    series: int
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


@dataclass(frozen=True, kw_only=True)
class Dot:
    """A value with its interval on a dot chart, or a point of a scatter chart."""

    label: str
    series: int
    x: float
    y: float = 0.0
    low: float | None = None
    high: float | None = None


def series_count() -> int:
    """Number of distinct colours; further series reuse them."""
    return len(_SERIES)


def line_chart(
    lines: Sequence[Line],
    *,
    name: str,
    alt: str,
    title: str,
    xlabel: str,
    ylabel: str = "",
    log_x: bool = False,
    y_range: tuple[float, float] | None = None,
) -> str:
    """A small panel of lines: its title and an ``<svg>`` element.

    Args:
        name: prefix that makes its ids unique on the page.
        alt: description for those who cannot see it.
    """
    with _style():
        figure = Figure(figsize=_PANEL)
        axes = figure.subplots()
        for line in lines:
            style = line.series % len(_SERIES)
            marker = _MARKERS[style] if len(line.x) <= 12 else ""
            axes.plot(
                line.x, line.y, color=_SERIES[style], linestyle=_DASHES[style], marker=marker, markersize=3.5, linewidth=1.6,
                gid=_model_id(line.label),
            )  # fmt: skip
            if line.low is not None and line.high is not None:
                band = axes.fill_between(line.x, line.low, line.high, color=_SERIES[style], alpha=0.18, linewidth=0)
                band.set_gid(_model_id(line.label))
        if log_x:
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted({x for line in lines for x in line.x}))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.minorticks_off()
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.xaxis.set_major_formatter(FuncFormatter(_short_number))
        if y_range is not None:
            axes.set_ylim(*y_range)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        return _finish(figure, axes, name=name, alt=alt, title=title, xlabel=xlabel, ylabel=ylabel)


def dot_chart(dots: Sequence[Dot], *, name: str, alt: str, title: str, xlabel: str, zero: bool = False) -> str:
    """Values with intervals, one row each from the top; ``zero`` draws a line at zero, for differences."""
    with _style():
        figure = Figure(figsize=(_WIDE, 0.75 + 0.32 * len(dots)))
        axes = figure.subplots()
        if zero:
            axes.axvline(0, color=_INK, linewidth=1)
        for row, dot in enumerate(dots):
            colour, gid = _SERIES[dot.series % len(_SERIES)], _model_id(dot.label)
            if dot.low is not None and dot.high is not None:
                ends = [dot.low, dot.high]
                axes.plot(ends, [row, row], color=colour, linewidth=2.2, alpha=0.55, solid_capstyle="butt", gid=gid)
            marker = _MARKERS[dot.series % len(_MARKERS)]
            axes.plot([dot.x], [row], marker=marker, color=colour, markersize=6, linestyle="", gid=gid)
        axes.set_yticks(range(len(dots)), [_plain_text(dot.label) for dot in dots])
        for label, dot in zip(axes.get_yticklabels(), dots, strict=True):
            label.set_gid(_model_id(dot.label))
        axes.set_ylim(len(dots) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(6))
        return _finish(figure, axes, name=name, alt=alt, title=title, xlabel=xlabel, ylabel="")


def scatter_chart(dots: Sequence[Dot], *, name: str, alt: str, title: str, xlabel: str, ylabel: str) -> str:
    """Labelled points, with a logarithmic horizontal axis."""
    with _style():
        figure = Figure(figsize=(_WIDE, 2.9))
        axes = figure.subplots()
        # Labels point to the middle of the chart, so that none leaves it.
        middle = math.sqrt(min(dot.x for dot in dots) * max(dot.x for dot in dots))
        for dot in dots:
            style, gid = dot.series % len(_SERIES), _model_id(dot.label)
            axes.plot([dot.x], [dot.y], marker=_MARKERS[style], color=_SERIES[style], markersize=7, linestyle="", gid=gid)
            left = dot.x > middle
            axes.annotate(
                _plain_text(dot.label), (dot.x, dot.y), xytext=(-7 if left else 7, 5), textcoords="offset points",
                ha="right" if left else "left", gid=gid,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.12, y=0.2)
        return _finish(figure, axes, name=name, alt=alt, title=title, xlabel=xlabel, ylabel=ylabel)


def _model_id(label: str) -> str:
    """The id of a group that belongs to a model; names come from outside, so they are encoded."""
    return _MODEL + quote(label, safe="")


def _style() -> AbstractContextManager[None]:
    settings = {
        **seaborn.axes_style("whitegrid"),
        "svg.fonttype": "none",
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _GRID,
        "axes.linewidth": 0.8,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "grid.color": _GRID,
        "grid.linewidth": 0.6,
        "axes.facecolor": "none",
        "figure.facecolor": "none",
        "text.parse_math": False,
    }
    return matplotlib.rc_context(settings)


def _finish(figure: Figure, axes: Axes, *, name: str, alt: str, title: str, xlabel: str, ylabel: str) -> str:
    axes.set_xlabel(_plain_text(xlabel))
    axes.set_ylabel(_plain_text(ylabel))
    seaborn.despine(ax=axes, left=True)
    figure.set_layout_engine("constrained")
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return f'<p class="title">{escape(title)}</p>' + _for_page(buffer.getvalue(), name, alt)


def _for_page(svg: str, name: str, alt: str) -> str:
    """Remove the prologue, make ids unique, leave colours and font to the page's style sheet, add the description."""
    width, height = re.search(r'viewBox="0 0 ([0-9.]+) ([0-9.]+)"', svg).groups()  # type: ignore[union-attr]
    opening = (
        f'<svg class="chart" role="img" aria-label="{escape(alt, quote=True)}" viewBox="0 0 {width} {height}" '
        f'style="max-width:{float(width) * _ENLARGED:.0f}px">'
    )
    svg = re.sub(r"^.*?<svg\b[^>]*>", "", svg, count=1, flags=re.DOTALL)
    # A style element inside an <svg> would apply to the whole page.
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(rf'\bid="{_MODEL}([^"]*)"', lambda found: f'data-model="{escape(unquote(found[1]))}"', svg)
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg).replace('xlink:href="#', f'href="#{name}-')
    svg = svg.replace(_INK, "currentColor").replace(_GRID, "var(--chart-grid)")
    for index, colour in enumerate(_SERIES):
        svg = svg.replace(colour, f"var(--series-{index})")
    svg = re.sub(r"font-family: [^;\"]*;? ?", "", svg)
    return opening + re.sub(r"\s*\n\s*", "\n", svg)


def _plain_text(text: str) -> str:
    """A label as one short line: names come from outside."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line if len(line) <= 40 else line[:39] + "…"


def _short_number(value: float, _: object) -> str:
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}"
