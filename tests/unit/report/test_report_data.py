"""Page, JSON and CSV hold the same numbers; reports are compared over time; the page stays within its limit."""

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
from nvgbench.report.against import Move, moves
from nvgbench.report.build import LIMIT, render_report
from nvgbench.report.data import read_report
from nvgbench.results.schema import Artifact, RunRecord
from nvgbench.results.store import LocatedRecord, located_records
from tests.helpers.report_records import metric, profile_record, provenance, scores, train_record, write_runs


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


def test_a_row_says_what_a_number_needs(page: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(page.with_suffix(".csv").read_text(encoding="utf-8"))))
    (row,) = [r for r in rows if (r["section"], r["subject"], r["metric"]) == ("scores", "nvg-shapes", "FD[classifier]")]
    assert float(row["value"]) == 21.4
    assert float(row["low"]) < 21.4 < float(row["high"])
    assert (row["level"], row["covers"], row["n"], row["n_reference"]) == ("0.95", "sampling", "2000", "2048")
    assert (row["extractor"], row["higher_is_better"]) == ("e" * 64, "False")
    assert row["protocol"].startswith("nvgbench/")
    assert row["record"]


def old_and_new(
    tmp_path: Path, old: list[RunRecord], new: list[RunRecord], suffix: str = ".html"
) -> dict[tuple[str, str], Move]:
    first = render_report(located(tmp_path, *old), tmp_path / "old.html")
    second = render_report(located(tmp_path, *new), tmp_path / "new.html")
    document = read_report(second.with_suffix(".json"))
    found = moves(read_report(first.with_suffix(suffix)), document.numbers)
    return {(move.subject, move.metric): move for move in found}


@pytest.mark.parametrize("suffix", [".html", ".json"])
def test_what_moved(tmp_path: Path, suffix: str) -> None:
    fd, extra = "FD[classifier]", metric("FD[x]", 5.0, 0.1, False)
    old = [evaluated("a", 10.0), evaluated("b", 10.0), evaluated("c", 10.0), evaluated("d", 10.0), evaluated("gone", 10.0)]
    fewer = tuple(dataclasses.replace(one, n=500) for one in scores(10.0))
    new = [
        evaluated("a", 20.0),
        evaluated("b", 10.1),
        evaluated("c", 5.0),
        evaluated("d", 10.0, metrics=(*fewer, extra)),
        evaluated("same", 10.0),
    ]
    found = old_and_new(tmp_path, old, new, suffix)
    outcomes = {subject: found[subject, fd].outcome for subject in ("a", "b", "c", "d", "same", "gone")}
    assert outcomes == {
        "a": "worse", "b": "inconclusive", "c": "better", "d": "not comparable", "same": "new", "gone": "gone",
    }  # fmt: skip
    moved = found["a", fd].difference
    assert moved is not None
    assert (moved.value, moved.covers) == (10.0, "sampling")
    assert moved.low is not None
    assert 0 < moved.low < 10.0
    assert "number of images differs" in found["d", fd].reason
    assert found["d", "FD[x]"].outcome == "new"
    again = old_and_new(tmp_path, old[:1], old[:1], suffix)
    assert {move.outcome for move in again.values()} == {"same"}


def by_rules(subject: str, value: float, protocol: str, name: str = "FID") -> RunRecord:
    return evaluated(subject, 0.0, metrics=(dataclasses.replace(metric(name, value, 0.1, False), protocol=protocol),))


def test_protocols_stand_apart_on_page_and_in_the_data(tmp_path: Path) -> None:
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
            ("differences", "a against b", "FID: difference", "nvgbench/2"): 1.0,
            ("differences", "a against b", "FID: difference", "adm/1"): -1.0,
            ("reconstruction", "a", "rFID", "adm/1"): 1.0,
        }


def test_protocols_move_apart(tmp_path: Path) -> None:
    old = [by_rules("a", 5.0, "nvgbench/2"), by_rules("a", 20.0, "adm/1"), by_rules("a", 7.0, "torch-fidelity/1")]
    new = [by_rules("a", 30.0, "adm/1"), by_rules("a", 4.0, "nvgbench/2"), by_rules("a", 7.0, "clean-fid/1")]
    found = old_and_new(tmp_path, old, new)
    assert {metric: move.outcome for (_, metric), move in found.items()} == {
        "FID": "better", "FID (adm)": "worse", "FID (torch-fidelity)": "gone", "FID (clean-fid)": "new",
    }  # fmt: skip
    second = [by_rules("a", 30.0, "adm/2")]
    assert old_and_new(tmp_path, old, second)["a", "FID (adm)"].reason == "protocol differs: adm/1 and adm/2"


def test_times_move_when_their_ranges_lie_apart(tmp_path: Path) -> None:
    profile = profile_record("m", "nvg", 0)
    slower = [
        dataclasses.replace(one, samples=tuple(2 * sample for sample in one.samples)) if one.name == "latency" else one
        for one in profile.measurements
    ]
    found = old_and_new(tmp_path, [profile], [dataclasses.replace(profile, measurements=tuple(slower))])
    assert found["m", "latency, batch 1"].outcome == "worse"
    assert found["m", "throughput, batch 64"].outcome == "same"
    other = {**profile.provenance, "machine": {**profile.provenance["machine"], "gpu": "another"}}
    found = old_and_new(tmp_path, [profile], [dataclasses.replace(profile, provenance=other)])
    assert found["m", "latency, batch 1"].outcome == "not comparable"


def test_the_page_tells_what_moved(tmp_path: Path) -> None:
    older = read_report(render_report(located(tmp_path, evaluated("a", 10.0)), tmp_path / "r.html"))
    page = render_report(located(tmp_path, evaluated("a", 20.0)), tmp_path / "r.html", older=older)
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page.read_text(encoding="utf-8")))
    assert "Against the older report: 7 worse, 1 unchanged." in text
    assert "Against the report \u2018Structured image generators, measured\u2019" in text
    document = json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))
    assert {move["outcome"] for move in document["moves"]} == {"worse"}
    assert any(number["section"] == "over time" and number["value"] == 10.0 for number in document["numbers"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<html></html>", "holds no report data"),
        ("{}", "damaged report data"),
        ('{"format": "other", "version": 1, "title": "", "newest": "", "numbers": []}', "format 'other'"),
        ('{"format": "nvgbench report", "version": 99, "title": "", "newest": "", "numbers": []}', "newer than 1"),
        ('{"format": "nvgbench report", "version": 1, "title": "", "newest": "", "numbers": [{}]}', "damaged report data"),
        ('{"format": "nvgbench report", "version": 1, "title": "", "newest": "", "numbers": [1', "damaged report data"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(InputError, match=said):
        read_report(tmp_path / "x.json")
    with pytest.raises(InputError, match="no report at"):
        read_report(tmp_path / "none.json")


def test_the_limit_holds_for_large_inputs(tmp_path: Path) -> None:
    """Long tables go first, then pictures shrink; what the page lacks stands beside it."""
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


def test_too_many_records_for_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.report.build.LIMIT", 20_000)
    with pytest.raises(InputError, match="name fewer runs"):
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
    assert "No LPIPS of a, b: the LPIPS loss needs …/vgg.pth." in text


def test_warnings_and_forced_scores_are_shown(tmp_path: Path) -> None:
    warning = {"check": "class order", "severity": "warning", "message": "sorted by class, IS is far too low"}
    forced = {"check": "extractor", "severity": "forced", "message": "weights other than the published ones"}
    records = [
        evaluated("a", 5.0, provenance=provenance(lint=[warning])),
        evaluated("b", 6.0, provenance=provenance(lint=[warning, forced])),
    ]
    page = render_report(located(tmp_path, *records), tmp_path / "r.html")
    text = re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", page.read_text(encoding="utf-8")))
    assert "Scores of b were computed although the rules refuse it (extractor); do not compare them." in text
    assert "Something moves the scores of a, b (class order)" in text
    assert text.index("weights other than the published ones") < text.index("sorted by class, IS is far too low")
    assert len(json.loads(page.with_suffix(".json").read_text(encoding="utf-8"))["warnings"]) == 2
