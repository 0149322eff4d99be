"""The live page: trainings with curves and latest pictures, and the queues of studies."""

from __future__ import annotations

import importlib.resources
from typing import Any

import jinja2
from markupsafe import Markup

from nvgbench.reporting import charts
from nvgbench.reporting.charts import Line
from nvgbench.reporting.quantities import duration, significant
from nvgbench.serving.live import Live, RunState

_SHOWN_CURVES = 6
"""Losses per run; held-out ones and the totals come first in the log."""
_OPEN_RUNS = 6


def live_page(live: Live, signature: str, *, report: bool) -> str:
    """The page as HTML.

    Args:
        live: what it shows.
        signature: of the state, by which the page sees that it is out of date.
        report: whether there is a report to link to.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("nvgbench.serving", "assets"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    runs = [_shown(run, number) for number, run in enumerate(live.runs)]
    return environment.get_template("live.html.j2").render(
        runs=runs, queues=live.queues, signature=signature, report=report, script=Markup(_text("nvgbench.serving", "live.js")),
        css=Markup(_text("nvgbench.reporting", "report.css") + _text("nvgbench.serving", "live.css")),
    )  # fmt: skip


def _shown(run: RunState, number: int) -> dict[str, Any]:
    progress = f"step {run.step:,}" + (f" of {run.total_steps:,}" if run.total_steps else "")
    parts = [run.phase, progress, duration(run.seconds)] if run.phase else []
    if run.rate:
        parts.append(f"{significant(run.rate)} images/s")
    curves = [] if number >= _OPEN_RUNS else _curves(run, number)
    share = run.step / run.total_steps if run.total_steps else None
    return {"run": run, "line": ", ".join(parts), "curves": curves, "share": share}


def _curves(run: RunState, number: int) -> list[Markup]:
    losses = dict(list(run.curves.get(run.phase, {}).items())[:_SHOWN_CURVES])
    drawn = []
    for place, (name, curve) in enumerate(losses.items()):
        steps, values = [step for step, _ in curve], [value for _, value in curve]
        line = Line(label=run.name, series=0, x=steps, y=values)
        alt = f"{name} of {run.name}, now {significant(values[-1])} at step {steps[-1]:,.0f}"
        drawn.append(charts.line_chart([line], name=f"live{number}-{place}", alt=alt, title=name, xlabel="step"))
    return [Markup(svg) for svg in drawn]


def _text(package: str, name: str) -> str:
    return importlib.resources.files(package).joinpath("assets", name).read_text(encoding="utf-8")
