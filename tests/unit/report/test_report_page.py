from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from nvgbench.errors import InputError
from nvgbench.gates.baseline import update_baseline
from nvgbench.gates.schema import Verdict
from nvgbench.reporting.build import render_report
from nvgbench.reporting.published import SENTENCE, match_published, published_results
from nvgbench.results.schema import Artifact, RunRecord
from nvgbench.results.store import LocatedRecord, ResultStore, located_records
from tests.helpers.replicates import replicate
from tests.helpers.report_records import MODELS, ablation_record, profile_record, provenance, scores, train_record, write_runs

VOID = {"meta", "img", "input", "br", "hr", "link", "path", "line", "use", "rect", "circle", "polyline", "polygon"}
LIMIT = 5_000_000


class Page(HTMLParser):
    """Elements, attributes and text of a page; fails on tags that do not match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] not in ("script", "style"):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words)).replace("\u202f", " ").replace("\u200b", "")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def html(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return render_report(located_records(runs), tmp_path_factory.mktemp("out") / "index.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def render(tmp_path: Path, *records: RunRecord, **options) -> Page:
    located = [LocatedRecord(record, tmp_path / "records.jsonl", line) for line, record in enumerate(records, start=1)]
    return Page(render_report(located, tmp_path / "out.html", **options).read_text(encoding="utf-8"))


def evaluated(subject: str, fd: float, family: str = "nvg", **changes) -> RunRecord:
    changes = {"provenance": provenance(), **changes}
    return RunRecord(kind="eval", subject=subject, family=family, metrics=scores(fd), **changes)


def trained(name: str, seed: int, fd: float, **changes) -> RunRecord:
    """An evaluation of one training of the group ``name``."""
    return evaluated(f"{name}-seed{seed}", fd, provenance=provenance(**replicate(name, seed)), **changes)


def test_one_self_contained_file(html: str, page: Page) -> None:
    assert len(html.encode()) < LIMIT
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/png;base64,")), value
    assert not page.all("link")
    assert not page.all("iframe")
    without_data = re.sub(r'<script type="application/json".*?</script>', "", html, flags=re.DOTALL)
    assert not re.search(r"https?://|@import|url\((?!#)", without_data)
    targets = {attributes["href"] for attributes in page.all("a")}
    ids = {attributes.get("id") for _, attributes in page.elements}
    assert {str(target)[1:] for target in targets} <= ids


def test_the_page_is_complete_without_scripts(html: str) -> None:
    bare = Page(re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL))
    for section in ("summary", "claims", "scores", "budgets", "costs", "pictures", "tokenizers", "studies", "training"):
        assert section in [attributes.get("id") for attributes in bare.all("section")]
    for words in (
        "nvg-shapes has the lowest FD[classifier]: 21.40 [20.56, 22.24], n = 2,000.",
        "the difference is 0.70 [-0.51, 1.91]; noise alone could explain it",
        "ar-shapes (34.90 [33.65, 36.15]) is worse than nvg-shapes by 13.50 [12.00, 15.00]",
        "All models saw the same data and, in each phase, the same number of images.",
        "For scale, FD[classifier] of the anchors: real images 3.20",
        "retraining a model may move its score further",
        "below each value its 95 % interval, sampling noise only",
        "var-shapes vs nvg-shapes",
        "None of the paper's 30 claims could be judged here.",
        "nvg-shapes beats var-shapes in FD[classifier]",
        "At batch 1, var-shapes is fastest",
        "n = 2,000 against 2,048 reference images",
        "not available",
        "NVML does not answer",
        "stages 1 to 7 of two samples",
        "0123456789",
        "Processor 3000",
        SENTENCE,
        "NVG-d16",
        "VQGAN",
    ):
        assert words in bare.text, words


def test_the_page_is_accessible(page: Page, html: str) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert all(attributes.get("alt") for attributes in page.all("img"))
    charts = [attributes for attributes in page.all("svg") if attributes.get("class") == "chart"]
    assert len(charts) >= 14
    assert all(attributes["role"] == "img" and len(str(attributes["aria-label"])) > 20 for attributes in charts)
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attributes.get("scope") for attributes in page.all("th"))
    counts = Counter(attributes["id"] for _, attributes in page.elements if attributes.get("id"))
    assert [name for name, number in counts.items() if number > 1] == []
    assert "prefers-color-scheme: dark" in html
    assert "@media print" in html
    assert "image-rendering: pixelated" in html


def test_the_page_embeds_all_records(html: str, runs: Path) -> None:
    found = re.search(r'<script type="application/json" id="nvgbench-report">(.*?)</script>', html, flags=re.DOTALL)
    assert found is not None
    ids = {record["id"] for record in json.loads(found[1])["records"]}
    assert ids == {one.record.id for one in located_records(runs)}


def test_the_same_records_make_the_same_page(html: str, runs: Path, tmp_path: Path) -> None:
    assert render_report(located_records(runs), tmp_path / "again.html").read_text(encoding="utf-8") == html


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    name = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\" onload='x'"
    Image.new("RGB", (8, 8)).save(tmp_path / "x.png")
    records = [
        evaluated(name, 5.0, artifacts=(Artifact(kind="samples", path="x.png", caption=name),)),
        evaluated("other", 9.0),
        dataclasses.replace(train_record(name, name, 0), preset=name),
        profile_record(name, name, 0),
        profile_record("other", "nvg", 1),
    ]
    verdict = Verdict(subject=name, metric=name, outcome="fail", reason=name)
    page = render(tmp_path, *records, title=name, verdicts=[verdict])
    assert len(page.all("script")) == 3  # the data, the models' names, the program
    assert not [attributes for _, attributes in page.elements if any(key.startswith("on") for key in attributes)]
    assert [attributes["src"] for attributes in page.all("img") if not str(attributes["src"]).startswith("data:")] == []
    assert "alert(1)" in page.text


def test_missing_broken_and_outside_pictures_leave_a_note(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    paths = ("missing.png", "broken.png", "../secret.png", str(tmp_path / "secret.png"))
    artifacts = tuple(Artifact(kind="samples", path=path, caption="c") for path in paths)
    page = render(folder, evaluated("m", 5.0, artifacts=artifacts))
    assert not page.all("img")
    assert "missing file: missing.png" in page.text
    assert "not a readable picture: broken.png" in page.text
    assert page.text.count("is outside the folder of its record") == 2


def test_pictures_of_the_data_set_can_be_left_out(app: typer.Typer, tmp_path: Path) -> None:
    kinds = ("samples", "reference", "trace")
    for number, kind in enumerate(kinds):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{kind}.png")
    Image.new("RGB", (8, 8), (9, 0, 0)).save(tmp_path / "real.png")
    model = evaluated("m", 5.0, artifacts=tuple(Artifact(kind=kind, path=f"{kind}.png") for kind in kinds))
    real = Artifact(kind="samples", path="real.png")
    anchor = dataclasses.replace(evaluated("real images", 1.0, artifacts=(real,)), family="anchor", preset="")
    ResultStore(tmp_path).append(model)
    ResultStore(tmp_path).append(anchor)
    counted = []
    for choice in ([], ["--no-data-pictures"]):
        out = tmp_path / "page.html"
        asked = ["report", "--records", str(tmp_path), "--out", str(out), *choice]
        assert CliRunner().invoke(app, asked).exit_code == 0
        counted.append(len(Page(out.read_text()).all("img")))
        assert ("reference.png" in out.with_suffix(".json").read_text()) == (not choice)
    assert counted == [4, 2]


def test_large_pictures_are_scaled_down_with_a_note(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    artifacts = []
    for number in range(3):
        noise = rng.integers(0, 256, (1000, 1400, 3), dtype=np.uint8)  # PNG cannot compress it: 4 MB each
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
        artifacts.append(Artifact(kind="samples", path=f"{number}.png", caption="noise"))
    page = render(tmp_path, evaluated("m", 5.0, artifacts=tuple(artifacts)))
    assert (tmp_path / "out.html").stat().st_size < LIMIT
    assert len(page.all("img")) == 3
    assert "of 1400 x 1000 pixels" in page.text


def test_a_single_model_and_no_model(tmp_path: Path) -> None:
    assert "alone is the only model with a score: FD[classifier] 5.00" in render(tmp_path, evaluated("alone", 5.0)).text
    page = render(tmp_path, profile_record("alone", "nvg", 0))
    assert "No model has been scored yet" in page.text
    assert "These records include no training." in page.text
    with pytest.raises(InputError, match="no records to report on"):
        render_report([], tmp_path / "none.html")


def test_a_page_of_studies_alone_has_no_empty_sections(tmp_path: Path) -> None:
    studies = render(tmp_path, ablation_record("m"))
    assert {"budgets", "costs"}.isdisjoint(tag.get("id") for tag in studies.all("section"))
    assert "No model has been scored yet" not in studies.text
    both = render(tmp_path, ablation_record("m"), evaluated("m", 5.0))
    assert {"studies", "budgets", "costs"} <= {tag.get("id") for tag in both.all("section")}


def test_unequal_budgets_and_scores_are_reported(tmp_path: Path) -> None:
    short = train_record("b", "var", 1)
    rows = [{**row, "images": row["images"] // 2} for row in short.tables["training"]]
    short = dataclasses.replace(short, tables={"training": rows})
    fewer = evaluated("c", 3.0, "var")
    fewer = dataclasses.replace(fewer, metrics=tuple(dataclasses.replace(m, n=500) for m in fewer.metrics))
    page = render(tmp_path, train_record("a", "nvg", 0), short, evaluated("a", 5.0), evaluated("b", 9.0), fewer)
    assert "the generators saw different numbers of images (a 768 k, b 384 k)" in page.text
    assert "No training record of c" in page.text
    assert "number of images differs" in page.text
    assert "a has the lowest FD[classifier]: 5.00" in page.text
    assert "c (3.00 [2.71, 3.29]) cannot be compared with a: number of images differs: 2000 and 500." in page.text


def test_a_model_worse_than_an_anchor_is_reported(tmp_path: Path) -> None:
    anchors = [evaluated("untrained", 50.0, "anchor"), evaluated("real images", 1.0, "anchor")]
    poor = render(tmp_path, evaluated("m", 90.0), *anchors)
    assert "m, the best model, is not clearly better than untrained (50.00" in poor.text
    good = render(tmp_path, evaluated("m", 5.0), *anchors)
    assert "not clearly better" not in good.text


def test_gate_verdicts_are_shown(tmp_path: Path) -> None:
    verdicts = [
        Verdict(subject="m", metric="KD[x]", outcome="pass", reason="equal to the digit", baseline=2.0, value=2.0),
        Verdict(subject="m", metric="FD[x]", outcome="pass", reason="within the margin", baseline=1.0, value=1.01, margin=0.1),
        Verdict(subject="m", metric="IS[x]", outcome="fail", reason="worse, beyond the margin", baseline=3.0, value=1.0),
    ]
    page = render(tmp_path, evaluated("m", 5.0), verdicts=verdicts)
    assert "The gate fails: 1 fail, 0 inconclusive, 2 pass; 2 of 3 compared numbers have moved." in page.text
    ordered = ("worse, beyond the margin", "within the margin", "equal to the digit")
    assert sorted(ordered, key=page.text.index) == list(ordered)
    assert "1.000 1.010 +0.0100 +1.0%" in page.text
    assert "3.000 1.000 \u22122.00 \u221266.7%" in page.text
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert document["gate"] == [dataclasses.asdict(verdict) for verdict in verdicts]


def test_published_numbers_come_with_the_package() -> None:
    rows = published_results()
    assert match_published("nvg-d16", rows).fid == "3.03"
    assert match_published("var-d24-shapes", rows).params == "1.0B"
    assert match_published("nvg-d160", rows) is None
    assert match_published("nvg-tiny", rows) is None


def test_the_command(app: typer.Typer, runs: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report.html"

    def run(*arguments: str):
        return CliRunner().invoke(app, ["report", *arguments, "--runs", str(runs), "--out", str(out)])

    done = run("nvg-shapes", "--title", "One model")
    assert done.exit_code == 0, done.exception
    page = Page(out.read_text(encoding="utf-8"))
    assert "One model" in page.text
    assert "nvg-shapes is the only model with a score" in page.text

    assert run("--records", str(runs / "nvg-shapes"), "--all").exit_code == 0
    shown = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))["records"]
    assert {record["id"] for record in shown} == {one.record.id for one in located_records(runs)}
    assert "did you mean 'nvg-shapes'" in str(run("nvg-shape").exception)

    baseline = tmp_path / "baseline.json"
    update_baseline(baseline, [one.record for one in located_records(runs)])
    assert run("--baseline", str(baseline)).exit_code == 0
    assert re.search(r"The gate passes: .*; 0 of \d+ compared numbers have moved\.", Page(out.read_text(encoding="utf-8")).text)
    assert out.with_suffix(".csv").read_text(encoding="utf-8").startswith("section,subject,metric,value")


def test_every_model_has_its_samples(page: Page) -> None:
    alts = [str(attributes["alt"]) for attributes in page.all("img")]
    for subject in MODELS:
        assert f"{subject}: six samples of each class, seeds 0 to 59" in alts
    # The reference is the same picture for all three models.
    assert sum("held-out images" in alt for alt in alts) == 1


def test_a_store_can_be_reported_while_it_grows(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.append(evaluated("m", 9.0, created="2026-01-01T00:00:00+00:00"))
    store.append(evaluated("m", 5.0, created="2026-01-02T00:00:00+00:00"))
    page = Page(render_report(located_records(tmp_path), tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "FD[classifier] 5.00" in page.text
    assert "FD[classifier] 9.00" not in page.text


def test_several_trainings_are_shown_as_one_model(tmp_path: Path) -> None:
    values = {"nvg-tiny": (10.0, 11.0, 12.0), "var-tiny": (20.0, 21.0, 22.0)}
    records = [
        evaluated(
            f"{name}-seed{seed}", value, preset=name, provenance=provenance(seeds={"sampling": 0}, **replicate(name, seed))
        )
        for name, of_seeds in values.items()
        for seed, value in enumerate(of_seeds)
    ]
    page = render(tmp_path, *records)
    # Student's t with two degrees of freedom: 4.303 standard errors of 0.577
    assert "nvg-tiny nvg 11.00 (best) [8.52, 13.48] 95 % interval, training noise" in page.text
    assert "95 % interval, sampling noise only" in page.text
    assert page.text.count("nvg-tiny beats var-tiny in FD[classifier]") == 1
    assert "nvg-tiny-seed0 beats" not in page.text


def test_the_luckiest_training_is_no_winner(tmp_path: Path) -> None:
    """Groups are compared with each other and with models trained once; their members are only shown."""
    values = {"m": (11.0, 10.5, 6.0, 12.0, 13.0), "k": (9.5, 14.0, 13.5)}
    members = [trained(name, seed, fd) for name, of_seeds in values.items() for seed, fd in enumerate(of_seeds)]
    page = render(tmp_path, *members[::-1], evaluated("alone", 30.0))
    assert "m has the lowest FD[classifier]: 10.50" in page.text
    for words in ("-seed2 has the lowest", "worse than m-seed2", "vs m-seed2", "m-seed0 vs", "minus that of m-seed2"):
        assert words not in page.text
    assert "FD[classifier] minus that of m " in page.text
    document = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert not [
        one["text"] for one in document["statements"] if "-seed" in one["text"] and "training record" not in one["text"]
    ]
    pairs = {number["subject"] for number in document["numbers"] if number["section"] == "differences"}
    assert pairs == {"k vs m", "alone vs m", "alone vs k"}
    shown = [n["subject"] for n in document["numbers"] if n["section"] == "scores" and n["metric"] == "FD[classifier]"]
    assert shown == ["m", "k", "alone", *(f"m-seed{s}" for s in range(5)), *(f"k-seed{s}" for s in range(3))]
    assert page.text.index("Single trainings of the groups above") < page.text.index("k-seed0 nvg 9.50")
    apart = (tmp_path / "out.html").read_text(encoding="utf-8").split("Single trainings of the groups above")[1]
    assert "(best)" not in apart.split("</table>")[0]


def test_one_group_alone_is_compared_with_nothing(tmp_path: Path) -> None:
    page = render(
        tmp_path,
        *(trained("m", seed, 10.0 + seed) for seed in range(11)),
    )
    assert "m is the only model with a score: FD[classifier] 15.00" in page.text
    assert "Pairwise differences" not in page.text
    assert page.text.index("m-seed2 nvg") < page.text.index("m-seed10 nvg")


def test_notes_that_differ_only_in_numbers_are_merged(tmp_path: Path) -> None:
    def noted(name: str, note: str) -> RunRecord:
        record = evaluated(name, 5.0)
        return dataclasses.replace(record, metrics=tuple(dataclasses.replace(m, note=note) for m in record.metrics))

    page = render(tmp_path, noted("a", "100 subsets, deviation 0.01, seed 0"), noted("b", "100 subsets, deviation 2, seed 0"))
    assert "FD[classifier]: 100 subsets, seed 0." in page.text
    page = render(tmp_path, noted("a", "stored moments"), noted("b", ""))
    assert "FD[classifier]: stored moments (a)." in page.text


def test_pairs_are_columns_if_there_are_fewer_of_them_than_of_scores(tmp_path: Path) -> None:
    page = render(tmp_path, evaluated("a", 5.0), evaluated("b", 9.0))
    assert "score b vs a FD" in page.text
    found = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["numbers"]
    subjects = {number["subject"] for number in found if number["section"] == "differences"}
    assert subjects == {"b vs a"}


def test_the_summary_uses_the_protocol_that_most_models_have(tmp_path: Path) -> None:
    def by_rules(subject: str, value: float, protocol: str) -> RunRecord:
        metric = dataclasses.replace(scores(value)[0], name="FID", protocol=protocol)
        return dataclasses.replace(evaluated(subject, value), metrics=(metric,))

    theirs = [by_rules("a", 30.0, "adm/1"), by_rules("b", 10.0, "adm/1")]
    page = render(tmp_path, *theirs, by_rules("a", 2.0, "nvgbench/2"))
    assert "b has the lowest FID (adm): 10.00" in page.text
    assert "FID (adm) minus that of b" in page.text
    page = render(tmp_path, *theirs, by_rules("a", 2.0, "nvgbench/2"), by_rules("b", 9.0, "nvgbench/2"))
    assert "a has the lowest FID: 2.00" in page.text
    page = render(tmp_path, by_rules("a", 2.0, "adm/1"), by_rules("b", 3.0, "adm/2"))
    assert "protocol differs: adm/1 and adm/2" in page.text


def test_forced_differences_are_marked(tmp_path: Path) -> None:
    fewer = evaluated("b", 9.0, "var")
    fewer = dataclasses.replace(fewer, metrics=tuple(dataclasses.replace(m, n=500) for m in fewer.metrics))
    plain = render(tmp_path, evaluated("a", 5.0), fewer)
    assert "not comparable \u2020" in plain.text
    assert "forced" not in plain.text
    forced = render(tmp_path, evaluated("a", 5.0), fewer, force=True)
    assert "8 differences between models are of scores that are not comparable" in forced.text
    assert "\u2020 forced, do not rely on it: number of images differs: 2000 and 500" in forced.text
    assert "+4.00" in forced.text
