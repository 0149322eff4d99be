from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from nvgbench.errors import InputError
from nvgbench.reporting.build import render_report
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import LocatedRecord
from tests.helpers.report_records import EXTRACTOR, provenance, scores


def evaluated(subject: str, day: int, value: float, n: int = 2000) -> RunRecord:
    metric = dataclasses.replace(scores(value)[0], n=n)
    created = f"2026-05-{day:02d}T10:00:00+00:00"
    return RunRecord(
        kind="eval",
        subject=subject,
        family="nvg",
        metrics=(metric,),
        created=created,
        provenance=provenance(extractor=EXTRACTOR),
    )


def located(records: list[RunRecord], folder: Path) -> list[LocatedRecord]:
    return [LocatedRecord(record, folder / "records.jsonl", line) for line, record in enumerate(records)]


def values(count: int, step: int | None) -> list[float]:
    """Small regular noise, and a step of -3 from ``step`` on."""
    return [20 + 0.1 * (day * 7 % 5) - (3 if step is not None and day >= step else 0) for day in range(count)]


def test_steps_of_a_score_are_reported(tmp_path: Path) -> None:
    records = [evaluated("m", day + 1, value) for day, value in enumerate(values(16, 9))]
    page = render_report(located(records, tmp_path), tmp_path / "r.html").read_text(encoding="utf-8")
    assert 'id="history"' in page
    assert "Better since" in page
    # Means of 9 and 7 values of the regular noise: 20.19 and 17.19.
    assert re.search(r"FD\[classifier\] of m changed by \u22123\.00 \[.*\] at 2026-05-10 10:00 \(95 % interval", page)


def test_another_n_is_another_history(tmp_path: Path) -> None:
    records = [evaluated("m", day + 1, value, n=500 if day < 14 else 2000) for day, value in enumerate(values(16, 14))]
    assert 'id="history"' not in render_report(located(records, tmp_path), tmp_path / "r.html").read_text(encoding="utf-8")


def test_earlier_reports_are_part_of_the_history(tmp_path: Path) -> None:
    *past, now = [evaluated("m", day + 1, value) for day, value in enumerate(values(12, None))]
    document = json.loads(render_report(located(past[:1], tmp_path), tmp_path / "0.html").with_suffix(".json").read_text())
    files = []
    for number, record in enumerate(past):
        changed = {"value": record.metrics[0].value, "created": record.created, "record": record.id}
        numbers = [one | changed for one in document["numbers"] if one["section"] == "scores"]
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(document | {"numbers": numbers}), encoding="utf-8")
    page = render_report(located([now], tmp_path), tmp_path / "r.html", earlier=[*files, files[0]])
    text = page.read_text(encoding="utf-8")
    assert "over 12 evaluations" in text
    assert "No score has a step." in text
    broken = tmp_path / "broken.json"
    broken.write_text(json.dumps({"format": "another"}))
    with pytest.raises(InputError, match=r"history=.*broken.json. is not the JSON of a report"):
        render_report(located([now], tmp_path), tmp_path / "r.html", earlier=[broken])
