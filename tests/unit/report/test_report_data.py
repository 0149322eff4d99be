"""Page, JSON and CSV hold the same numbers; the page stays within its limit."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nvgbench.errors import InputError
from nvgbench.reporting.build import LIMIT, render_report
from nvgbench.results.schema import Artifact, RunRecord
from nvgbench.results.store import LocatedRecord, located_records
from tests.helpers.report_records import ablation_record, metric, provenance, scores, train_record, write_runs


class Cells(HTMLParser):
    """``data-sort`` and first text of every cell that has a number."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[float, str]] = []
        self._value: float | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        value = dict(attrs).get("data-sort")
        if value is not None:
            self._value = float(value)

    def handle_data(self, data: str) -> None:
        if self._value is not None:
            self.found.append((self._value, data.strip().replace("\u202f", " ")))
            self._value = None


def located(folder: Path, *records: RunRecord) -> list[LocatedRecord]:
    return [LocatedRecord(record, folder / "records.jsonl", line) for line, record in enumerate(records, start=1)]


def evaluated(subject: str, fd: float, **changes) -> RunRecord:
    changes = {"provenance": provenance(), "metrics": scores(fd), **changes}
    return RunRecord(kind="eval", subject=subject, family="nvg", **changes)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = write_runs(tmp_path_factory.mktemp("runs"))
    return render_report(located_records(runs), tmp_path_factory.mktemp("out") / "index.html")


def test_page_json_and_csv_hold_the_same_numbers(page: Path) -> None:
    html = page.read_text(encoding="utf-8")
    cells = sorted(Cells(html).found)
    document = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    rows = list(csv.DictReader(io.StringIO(page.with_suffix(".csv").read_text(encoding="utf-8"))))
    assert len(cells) > 200
    assert sorted((number["value"], number["shown"]) for number in document["numbers"]) == cells
    assert sorted((float(row["value"]), row["shown"]) for row in rows) == cells
    assert [row["section"] for row in rows] == [number["section"] for number in document["numbers"]]
    inside = re.search(r'id="nvgbench-report">(.*?)</script>', html, flags=re.DOTALL)
    assert inside is not None
    assert json.loads(inside[1]) == document


def test_a_row_has_what_is_needed_to_compare_its_number(page: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(page.with_suffix(".csv").read_text(encoding="utf-8"))))
    (row,) = [r for r in rows if (r["section"], r["subject"], r["metric"]) == ("scores", "nvg-shapes", "FD[classifier]")]
    assert float(row["value"]) == 21.4
    assert float(row["low"]) < 21.4 < float(row["high"])
    assert (row["level"], row["covers"], row["n"], row["n_reference"]) == ("0.95", "sampling", "2000", "2048")
    assert (row["extractor"], row["higher_is_better"]) == ("e" * 64, "False")
    assert row["protocol"].startswith("nvgbench/")
    assert row["record"]


def by_rules(subject: str, value: float, protocol: str, name: str = "FID") -> RunRecord:
    return evaluated(subject, 0.0, metrics=(dataclasses.replace(metric(name, value, 0.1, False), protocol=protocol),))


def test_protocols_are_kept_apart_on_page_and_in_the_data(tmp_path: Path) -> None:
    records = [by_rules("a", 20.0, "adm/1"), by_rules("b", 21.0, "adm/1"), by_rules("a", 7.0, "adm/1", "sFID")]
    records += [by_rules("a", 5.0, "nvgbench/2"), by_rules("b", 4.0, "nvgbench/2"), by_rules("a", 1.0, "adm/1", "rFID")]
    page = render_report(located(tmp_path, *records), tmp_path / "r.html")
    html = page.read_text(encoding="utf-8")
    tables = [re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", table)) for table in re.findall("(?s)<table.*?</table>", html)]
    (main,) = (text for text in tables if "Scores of generated images" in text)
    assert re.search("model FID lower .* FID \\(adm\\) lower .* sFID \\(adm\\) lower", main)
    assert any("rFID (adm)" in text for text in tables)
    rows = list(csv.DictReader(io.StringIO(page.with_suffix(".csv").read_text(encoding="utf-8"))))
    numbers = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["numbers"]
    for found in (rows, numbers):
        held = {
            (row["section"], row["subject"], row["metric"], row["protocol"]): float(row["value"])
            for row in found
            if row["section"] in ("scores", "differences", "reconstruction")
        }
        assert held == {
            ("scores", "a", "FID", "nvgbench/2"): 5.0,
            ("scores", "a", "FID", "adm/1"): 20.0,
            ("scores", "a", "sFID", "adm/1"): 7.0,
            ("scores", "b", "FID", "nvgbench/2"): 4.0,
            ("scores", "b", "FID", "adm/1"): 21.0,
            ("differences", "a vs b", "FID: difference", "nvgbench/2"): 1.0,
            ("differences", "a vs b", "FID: difference", "adm/1"): -1.0,
            ("reconstruction", "a", "rFID", "adm/1"): 1.0,
        }


def test_the_limit_holds_for_large_inputs(tmp_path: Path) -> None:
    """First the tables are left out, then pictures shrink; the files beside the page have everything."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(12):
        noise = rng.integers(0, 256, (600, 800, 3), dtype=np.uint8)  # PNG cannot compress it: 1.4 MB each
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
        picture = Artifact(kind="samples", path=f"{number}.png", caption="noise", rows=("one", "two"))
        long = {"a long table": [{"text": f"{row} " * 20} for row in range(2000)]}
        records.append(evaluated(f"m{number}", 5.0 + number, artifacts=(picture,), tables=long))
        records.append(train_record(f"m{number}", "nvg", number))
    page = render_report(located(tmp_path, *records), tmp_path / "index.html")
    html = page.read_text(encoding="utf-8")
    assert LIMIT * 0.5 < page.stat().st_size <= LIMIT == 5_000_000
    assert html.count("data:image/png;base64,") == 12
    assert "pixels)" in html
    assert "a long table" not in html
    assert page.with_suffix(".json").read_text(encoding="utf-8").count('"a long table"') == 12


def test_numbers_of_large_studies_are_beside_the_page_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.reporting.build._MOST_DATA", 20_000)
    page = render_report(located(tmp_path, evaluated("m", 5.0), ablation_record("m")), tmp_path / "index.html")
    inside = re.search(r'id="nvgbench-report">(.*?)</script>', page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert inside is not None
    found, beside = json.loads(inside[1]), json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert {number["section"] for number in beside["numbers"]} >= {"studies", "scores"}
    assert found["numbers"] == [number for number in beside["numbers"] if number["section"] != "studies"]


def test_too_many_records_for_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.reporting.build.LIMIT", 20_000)
    with pytest.raises(InputError, match="choose fewer runs"):
        render_report(located(tmp_path, evaluated("m", 5.0)), tmp_path / "index.html")
    assert list(tmp_path.iterdir()) == []


def test_no_folder_of_a_machine_in_any_file(tmp_path: Path) -> None:
    secret = {
        "command": "nvgbench eval --samples /home/someone/secret/x.npz",
        "lpips": "needs w.pth in /home/someone/hub",
    }
    lint = [{"check": "order", "severity": "warning", "message": "/home/someone/secret/x.npz is sorted by class"}]
    page = render_report(
        located(tmp_path, evaluated("m", 5.0, provenance=provenance(**secret, lint=lint))), tmp_path / "r.html"
    )
    for suffix in (".html", ".json", ".csv"):
        assert "/home/someone" not in page.with_suffix(suffix).read_text(encoding="utf-8")
    assert "…/x.npz is sorted by class" in page.read_text(encoding="utf-8")


def test_a_missing_lpips_is_explained_below_its_table(tmp_path: Path) -> None:
    reason = {"lpips": "perceptual loss: none, because the LPIPS loss needs /home/someone/hub/vgg.pth"}
    psnr = metric("PSNR", 20.0, 0.1, True)
    lacking = [evaluated(name, 5.0, metrics=(psnr,), provenance=provenance(**reason)) for name in "ab"]
    having = evaluated("c", 5.0, metrics=(psnr, metric("LPIPS", 0.2, 0.01, False)), provenance=provenance(lpips="loaded"))
    text = render_report(located(tmp_path, *lacking, having), tmp_path / "r.html").read_text(encoding="utf-8")
    assert "No LPIPS for a, b: the LPIPS loss needs …/vgg.pth." in text


def test_warnings_and_forced_scores_are_shown(tmp_path: Path) -> None:
    warning = {"check": "class order", "severity": "warning", "message": "sorted by class, IS is far too low"}
    forced = {"check": "extractor", "severity": "forced", "message": "weights other than the published ones"}
    records = [
        evaluated("a", 5.0, provenance=provenance(lint=[warning])),
        evaluated("b", 6.0, provenance=provenance(lint=[warning, forced])),
    ]
    page = render_report(located(tmp_path, *records), tmp_path / "r.html")
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page.read_text(encoding="utf-8")))
    assert "Scores of b were computed although the checks refuse it (extractor); do not compare them." in text
    assert "The linter has warnings about the scores of a, b (class order)" in text
    assert text.index("weights other than the published ones") < text.index("sorted by class, IS is far too low")
    assert len(json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["warnings"]) == 2
