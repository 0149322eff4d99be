"""Studies on the page: their records alone decide what is drawn."""

from __future__ import annotations

import dataclasses
from typing import Any

from nvgbench.reporting.studies import study_sections
from nvgbench.results.schema import RunRecord
from nvgbench.results.study import Chart, Finding, StudyPage
from tests.helpers.report_records import provenance

PAGE = StudyPage(
    name="toy",
    question="Does it matter?",
    design=("rate: two of them",),
    findings=(
        Finding(text="high is better", verdict="better", subject="high"),
        Finding(text="nothing is known", verdict="inconclusive"),
        Finding(text="three were counted"),
    ),
    charts=(
        Chart(table="differences", caption="differences", kind="dots", label="difference", zero=True),
        Chart(table="lines", caption="lines", x="tokens", y="ari_mean", series="clustering", only=("a", "b"), panel=("level",)),
        Chart(table="absent", caption="nothing to draw"),
    ),
    tables=("differences",),
    limits="Everything else.",
)


def record(page: Any = None, source: str | None = None, **changes: Any) -> RunRecord:
    tables = {
        "differences": [{"variant": "high", "value": -1.5, "value_low": -2.0, "value_high": -1.0, "n": 3}],
        "lines": [
            {"clustering": name, "level": level, "tokens": n, "ari_mean": 0.5, "ari_low": 0.4, "ari_high": None}
            for name in ("a", "b", "c") for level in ("x", "y") for n in (2, 4)
        ],
        "runs": [{"variant": "low", "error": ""}, {"variant": "high", "error": "no memory"}],
    }  # fmt: skip
    origin = provenance(study=PAGE.as_tree() if page is None else page, dataset=source and {"name": source})
    return RunRecord(kind="ablation", subject="toy of ar-tiny", tables=tables, provenance=origin, **changes)


def test_a_page_is_drawn_from_the_record_alone() -> None:
    (section,) = study_sections([record()])
    assert (section.heading, section.question, section.limits) == ("toy: toy of ar-tiny", "Does it matter?", "Everything else.")
    assert [(one.word, one.tone) for one in section.statements] == [
        ("better", "better"), ("inconclusive", "inconclusive"), ("measured", "plain"), ("incomplete", "warning"),
    ]  # fmt: skip
    assert "1 of 2 runs failed" in section.statements[-1].text
    dots, lines = section.figures
    assert "high -1.5 [-2, -1]" in dots.svgs[0]
    assert [label for label, _ in lines.legend] == ["a", "b"]
    assert len(lines.svgs) == 2
    assert "a 0.5 at 2 tokens, 0.5 at 4 tokens" in lines.svgs[0]
    (table,) = section.tables
    numbers = {cell.number.metric: cell.number.value for cell in table.groups[0].rows[0] if cell.number is not None}
    assert numbers == {"value": -1.5, "value_low": -2.0, "value_high": -1.0, "n": 3}


def test_the_newest_record_of_each_study_subject_and_data_is_shown() -> None:
    old, new = (record(created=f"2026-01-0{day}T00:00:00+00:00") for day in (1, 2))
    headings = [one.heading for one in study_sections([new, old, record(source="bsds:x")])]
    assert headings == ["toy: toy of ar-tiny", "toy: toy of ar-tiny on bsds:x"]


def test_records_without_a_page_are_left_out() -> None:
    assert (
        study_sections([record(page="clusters"), record(page={"name": "x"}), dataclasses.replace(record(), kind="eval")]) == []
    )
