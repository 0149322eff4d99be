"""The report in a headless browser: nothing is cut at any width, and what its scripts do. Skipped without a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nvgbench.reporting.build import render_report
from nvgbench.results.store import located_records
from tests.helpers.browser import measure, needs_browser, run_browser
from tests.helpers.report_records import write_runs
from tests.unit.report.test_side_by_side import model

pytestmark = needs_browser

WIDTHS = (360, 800, 1300, 1900)
LAYOUT = """
for (const details of document.querySelectorAll("details")) details.open = true;
const page = document.documentElement, main = document.querySelector("main");
const box = (element) => element.getBoundingClientRect();
const kind = (element) => element.id || element.className.baseVal || element.className;
const name = (element) => `${element.tagName} ${kind(element)}: ${element.textContent.slice(0, 40)}`;
const scrolls = (element) => element.closest(".scroll, .frame, .cards, .unseen, .skip, .zoom");
const visible = [...document.querySelectorAll("body *")].filter((element) => box(element).width > 0);
const outside = visible.filter((element) => box(element).right > page.clientWidth + 1 && !scrolls(element));
const cut = [...document.querySelectorAll("svg.chart text")].filter((text) => {
  const panel = box(text.closest(".panel"));
  return box(text).right > panel.right + 2 || box(text).left < panel.left - 2;
});
const tables = [...document.querySelectorAll(".scroll")].filter((one) => one.scrollWidth > one.clientWidth + 1);
const named = (control) => control.textContent.trim() || control.getAttribute("aria-label") || control.labels?.length;
const labelled = (section) => document.getElementById(section.getAttribute("aria-labelledby"));
const controls = [...document.querySelectorAll("a, button, input, select, summary, [tabindex]")];
return {
  overflow: page.scrollWidth - page.clientWidth,
  outside: outside.slice(0, 5).map(name),
  cut: cut.slice(0, 5).map(name),
  unreachable: tables.filter((one) => getComputedStyle(one).overflowX !== "auto" || one.tabIndex !== 0).map(name),
  used: box(main.querySelector(".statements")).width / page.clientWidth,
  chart: Math.min(...[...document.querySelectorAll("#scores svg.chart")].map((svg) => box(svg).width)),
  unnamed: controls.filter((control) => !named(control) || control.tabIndex < 0).map(name),
  landmarks: ["header", "nav[aria-label]", "main"].map((one) => document.querySelectorAll(one).length),
  regions: [...document.querySelectorAll("main > section")].filter((one) => !labelled(one)).length,
  requests: performance.getEntriesByType("resource").filter((one) => !one.name.startsWith("data:")).map((one) => one.name),
};
"""
QUERY = "?hide=ar-shapes&mark=nvg-shapes&name%3Avar-shapes=VAR+%26+co&order=var-shapes&b=c&class=dog&first=confidence%3Ahigh"
SCRIPTS = """
const rows = "#table-scores tbody:first-of-type tr:not(.gone) > th";
const heads = () => [...document.querySelectorAll(rows)].map((head) => head.firstChild.textContent);
const before = heads();
const copies = {};
for (const button of document.querySelector("#table-scores").closest(".scroll").nextElementSibling.querySelectorAll("button")) {
  button.click();
  copies[button.textContent] = button.dataset.copied;
}
const head = document.querySelectorAll("#table-scores thead button")[2];
const sorted = [1, 2, 3].map(() => (head.click(), heads()));
const boxes = document.querySelectorAll("#models li:first-child input[type=checkbox]");
const cards = [...document.querySelectorAll(".card")];
boxes[0].click();
const hidden = heads();
return {
  before, copies, sorted, hidden,
  address: location.search,
  marked: document.querySelectorAll("tr.marked").length,
  paper: getComputedStyle(document.body).backgroundColor,
  summary: document.querySelector("#summary").textContent,
  captions: cards.map((card) => card.querySelector("figcaption").textContent),
  maps: cards[0].querySelectorAll(".maps .tile").length,
  settings: [...document.querySelectorAll("#table-configurations thead th:not(.gone)")].map((one) => one.textContent),
};
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_runs(tmp_path_factory.mktemp("runs"))
    side = [model(root, "a", 10, maps=True), model(root, "b", 20), model(root, "c", 30, maps=True)]
    return render_report([*located_records(root), *side], root / "index.html")


@pytest.fixture(scope="module")
def layout(page: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Any]:
    return measure(page, LAYOUT, tmp_path_factory.mktemp("layout"), widths=WIDTHS)


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut(layout: dict[int, Any], width: int) -> None:
    """Everything is inside the window, or in a box that scrolls and that the keyboard reaches."""
    found = layout[width]
    assert found["overflow"] == 0
    assert found["outside"] == found["cut"] == found["unreachable"] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_the_width_is_used(layout: dict[int, Any], width: int) -> None:
    assert layout[width]["used"] > 0.85
    assert layout[width]["chart"] >= min(0.85 * width, 420)


def test_keyboard_and_landmarks(layout: dict[int, Any]) -> None:
    found = layout[1300]
    assert found["unnamed"] == []
    assert found["landmarks"] == [1, 1, 1]
    assert found["regions"] == 0
    assert found["requests"] == []


def test_scripts_and_dark_colours(page: Path, tmp_path: Path) -> None:
    found = measure(page, SCRIPTS, tmp_path, query=QUERY, dark=True)[1300]
    red, green, blue = (int(part) for part in found["paper"].removeprefix("rgb(").removesuffix(")").split(", "))
    assert max(red, green, blue) < 64
    # The renamed model was moved to the top; the hidden one is gone.
    assert found["before"][0] == "VAR & co"
    assert "ar-shapes" not in found["before"]
    assert "VAR & co" in found["summary"]
    assert "var-shapes" not in found["summary"]
    assert found["marked"] >= 1
    assert "VAR & co" not in found["hidden"]
    assert "hide=var-shapes" in found["address"]
    assert "class=dog" in found["address"]
    first, second, third = found["sorted"]
    assert first == second[::-1]
    assert sorted(third) == sorted(found["before"])
    copies = found["copies"]
    assert "| VAR & co var | 22.10 [21.24, 22.96] |" in copies["Markdown"]
    assert "ar-shapes" not in copies["Markdown"].replace("var-shapes", "")
    assert r"VAR \& co {\small var} & 22.10 {\small [21.24, 22.96]}" in copies["LaTeX"]
    assert "VAR & co,var,22.1," in copies["CSV"]
    # Of the left model the most confident dogs first; both have structure maps; only these two models' settings.
    assert found["captions"] == [f"dog {number}confidence 0.{left} | 0.{right}" for number, left, right in
                                 ((3, 15, 35), (2, 14, 34), (1, 13, 33))]  # fmt: skip
    assert found["maps"] == 2
    assert found["settings"] == ["setting", "a", "c"]


def test_print(page: Path, tmp_path: Path) -> None:
    paper = tmp_path / "page.pdf"
    run_browser([f"--print-to-pdf={paper}", "--no-pdf-header-footer", page.as_uri()], tmp_path)
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    assert 2 <= content.count(b"/Type /Page\n") <= 40
