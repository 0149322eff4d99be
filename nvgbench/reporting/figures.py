"""Charts from records, with descriptions for those who cannot see them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from nvgbench.reporting import charts
from nvgbench.reporting.charts import Dot, Line
from nvgbench.reporting.costs import find_measurement, newest
from nvgbench.reporting.quantities import interval_text, score
from nvgbench.reporting.scores import Scores, primary_metric
from nvgbench.results.schema import RunRecord

_MOST_PANELS = 24
_MOST_POINTS = 400
"""Points of a curve, about one per pixel; of longer ones every second, third … point is drawn."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Charts that share a caption and a legend.

    Attributes:
        svgs: the panels.
        caption: what they show and how to read them.
        legend: labels and series numbers shared by the panels; empty if the labels are in the drawing.
    """

    svgs: Sequence[str]
    caption: str
    legend: Sequence[tuple[str, int]] = field(default_factory=tuple)


def series_numbers(models: Iterable[str]) -> dict[str, int]:
    """One colour per model, the same in every chart of the page."""
    return {subject: number for number, subject in enumerate(dict.fromkeys(models))}


def score_figure(models: Scores, anchors: Scores, series: Mapping[str, int]) -> Figure | None:
    """The primary score with its intervals; None if fewer than two models or anchors have it."""
    name = primary_metric(models)
    if name is None:
        return None
    dots, described = [], []
    for subject, metrics in (*models.items(), *anchors.items()):
        metric = metrics[name].metric if name in metrics else None
        if metric is None or metric.value is None:
            continue
        low, high = (metric.interval.low, metric.interval.high) if metric.interval else (None, None)
        # Anchors, which are not models, share the last colour.
        number = series.get(subject, charts.series_count() - 1)
        dots.append(Dot(label=subject, series=number, x=metric.value, low=low, high=high))
        described.append(f"{subject} {score(metric.value)} {interval_text(metric.interval, metric.value)}".strip())
    # A poor anchor would squeeze the models together: far ones are only named in the caption.
    limit = 1.5 * max((dot.x for dot in dots if dot.label in models), default=0.0)
    beyond = [f"{dot.label} {score(dot.x)}" for dot in dots if dot.x > limit]
    dots = sorted((dot for dot in dots if dot.x <= limit), key=lambda dot: dot.x)
    if len(dots) < 2:
        return None
    svg = charts.dot_chart(
        dots, name="primary", alt=f"{name}: {'; '.join(described)}.", title=f"{name}, lower is better", xlabel=name
    )
    outside = f" Beyond the axis: {', '.join(beyond)}." if beyond else ""
    return Figure(svgs=[svg], caption=f"{name} of models and anchors. Bars are the intervals of the table above.{outside}")


def tradeoff_figure(records: Sequence[RunRecord], models: Scores, series: Mapping[str, int]) -> Figure | None:
    """Primary score over latency at batch 1; None if fewer than two models have both."""
    name = primary_metric(models)
    dots = []
    for subject, record in newest(records, "profile").items():
        latency = find_measurement(record, "latency", 1)
        scored = models.get(subject, {}).get(name or "")
        if latency and latency.samples and scored and scored.metric.value is not None:
            dots.append(Dot(label=subject, series=series[subject], x=latency.median * 1000, y=scored.metric.value))
    if len(dots) < 2:
        return None
    described = "; ".join(f"{dot.label}: {dot.x:.3g} ms, {score(dot.y)}" for dot in dots)
    svg = charts.scatter_chart(
        dots,
        name="tradeoff",
        alt=f"{name} over latency at batch 1. {described}.",
        title=f"{name} over latency",
        xlabel="latency at batch 1, ms",
        ylabel=str(name),
    )
    return Figure(svgs=[svg], caption="Quality and speed: the lower left corner is better in both.")


def training_figures(records: Sequence[RunRecord], series: Mapping[str, int]) -> list[Figure]:
    """Losses over steps, one figure per phase and one panel per loss."""
    points: dict[str, dict[str, dict[str, list[tuple[float, float]]]]] = {}
    for subject, record in newest(records, "train").items():
        for row in record.tables.get("curve", ()):
            for key, value in row.items():
                if (key == "loss" or key.startswith("loss/")) and isinstance(value, int | float):
                    losses = points.setdefault(str(row.get("phase", "training")), {})
                    losses.setdefault(key.removeprefix("loss/"), {}).setdefault(subject, []).append((float(row["step"]), value))
    figures: list[Figure] = []
    for phase, losses in points.items():
        svgs = [
            _loss_panel(f"curve{len(figures)}-{number}", loss, curves, series)
            for number, (loss, curves) in enumerate(list(losses.items())[:_MOST_PANELS])
        ]
        shown = dict.fromkeys(subject for curves in losses.values() for subject in curves)
        legend = [(subject, series[subject] % charts.series_count()) for subject in shown]
        caption = f"Training of the {phase}: each loss as logged, over steps. The first values may lie above the frame."
        figures.append(Figure(svgs=svgs, caption=caption, legend=legend))
    return figures


def _loss_panel(name: str, loss: str, curves: Mapping[str, Sequence[tuple[float, float]]], series: Mapping[str, int]) -> str:
    lines, values, ends = [], [], []
    for subject, curve in curves.items():
        steps, losses = [step for step, _ in curve], [value for _, value in curve]
        thin = slice(None, None, max(1, len(curve) // _MOST_POINTS))
        lines.append(Line(label=subject, series=series[subject], x=steps[thin], y=losses[thin]))
        values += losses[len(losses) // 20 :]
        ends.append(f"{subject} ends at {score(losses[-1])} after {steps[-1]:,.0f} steps")
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.1
    return charts.line_chart(
        lines,
        name=name,
        alt=f"{loss} over training steps: {'; '.join(ends)}.",
        title=loss,
        xlabel="step",
        y_range=(low - room, high + room),
    )
