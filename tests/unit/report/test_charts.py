from __future__ import annotations

import re

from nvgbench.reporting import charts
from nvgbench.reporting.charts import Dot, Line


def panel(name: str = "c", title: str = "loss", **changes) -> str:
    banded = Line(label="a", series=0, x=[1, 2, 4], y=[3, 2, 1], low=[2, 1, 0], high=[4, 3, 2])
    lines = [banded, Line(label="b", series=1, x=[1], y=[1])]
    return charts.line_chart(lines, name=name, alt='x "quoted" & <b>', title=title, xlabel="step", **changes)


def test_colours_are_css_variables() -> None:
    svg = panel()
    assert "var(--series-0)" in svg
    assert "var(--series-1)" in svg
    assert "currentColor" in svg
    assert not re.search(r"#[0-9a-f]{6}", svg)
    assert "font-family" not in svg


def test_a_chart_does_not_affect_the_page() -> None:
    svg = panel()
    assert "<style" not in svg
    assert "<metadata" not in svg
    assert "http" not in svg
    ids, references = set(re.findall(r' id="([^"]+)"', svg)), set(re.findall(r'(?:url\(|href=")#([^")]+)', svg))
    assert references <= ids
    assert all(one.startswith("c-") for one in ids)
    assert ids.isdisjoint(re.findall(r' id="([^"]+)"', panel("d")))


def test_descriptions_and_titles_are_escaped() -> None:
    svg = panel(title="<script>alert(1)</script> $\\frac{")
    assert 'aria-label="x &quot;quoted&quot; &amp; &lt;b&gt;"' in svg
    assert "<script" not in svg
    assert "$" in svg  # names are not parsed as mathematics


def test_charts_are_reproducible() -> None:
    assert panel(log_x=True, y_range=(0, 5)) == panel(log_x=True, y_range=(0, 5))


def test_one_dot_and_equal_dots() -> None:
    dots = [Dot(label="a", series=0, x=5.0, y=1.0), Dot(label="b" * 100, series=7, x=5.0, y=1.0, low=5.0, high=5.0)]
    for drawn in (
        charts.dot_chart(dots, name="n", alt="a", title="t", xlabel="x"),
        charts.scatter_chart(dots, name="n", alt="a", title="t", xlabel="x", ylabel="y"),
    ):
        assert "b" * 39 + "…" in drawn


def test_titles_are_html_that_wraps() -> None:
    title = "FID (adm) minus that of " + "a very long name of a model " * 4
    text, drawing = panel(title=title).split("<svg", 1)
    assert title in text
    assert "minus that of" not in drawing


def test_marks_and_labels_name_their_model() -> None:
    assert panel().count('data-model="a"') == 2  # line and band
    dots = [Dot(label='a "b" <c>', series=0, x=5.0, y=1.0, low=4.0, high=6.0), Dot(label="d", series=1, x=6.0, y=2.0)]
    drawn = charts.dot_chart(dots, name="n", alt="a", title="t", xlabel="x")
    assert drawn.count('data-model="a &quot;b&quot; &lt;c&gt;"') == 3  # interval, dot and label
    drawn = charts.scatter_chart(dots, name="n", alt="a", title="t", xlabel="x", ylabel="y")
    assert drawn.count('data-model="d"') == 2
