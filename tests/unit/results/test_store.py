from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvgbench.errors import InputError
from nvgbench.results.records import Records
from nvgbench.results.schema import Artifact, RunRecord
from nvgbench.results.store import ResultStore, decode_record, encode_record, located_records, read_records
from nvgbench.types import Interval, Measurement, MetricValue

finite = st.floats(allow_nan=False, allow_infinity=False)
any_float = st.floats()
text = st.text(max_size=20)
json_values = st.recursive(st.none() | st.booleans() | finite | text, lambda inner: st.lists(inner, max_size=3), max_leaves=4)
intervals = st.builds(
    lambda ends, *rest: Interval(min(ends), max(ends), 0.95, *rest),
    st.tuples(finite, finite),
    st.sampled_from(["sampling", "training"]),
    text,
)
metrics = st.builds(
    MetricValue,
    name=text,
    value=st.none() | finite,
    n=st.integers(0, 10**9),
    higher_is_better=st.none() | st.booleans(),
    n_reference=st.none() | st.integers(0, 10**9),
    interval=st.none() | intervals,
    stderr=st.none() | finite,
    note=text,
)
measurements = st.builds(
    Measurement,
    name=text,
    unit=st.sampled_from(["s", "B", "J"]),
    samples=st.lists(finite, max_size=4).map(tuple),
    conditions=st.dictionaries(text, json_values, max_size=3),
)
records = st.builds(
    RunRecord,
    kind=st.sampled_from(["train", "sample", "eval", "reconstruction", "profile", "ablation"]),
    subject=text,
    family=text,
    metrics=st.lists(metrics, max_size=3).map(tuple),
    measurements=st.lists(measurements, max_size=2).map(tuple),
    tables=st.dictionaries(text, st.lists(st.dictionaries(text, json_values, max_size=3), max_size=2), max_size=2),
    artifacts=st.lists(st.builds(Artifact, kind=text, path=text, caption=text), max_size=2).map(tuple),
    provenance=st.dictionaries(text, json_values, max_size=3),
)


@given(records)
def test_records_survive_the_round_trip(record: RunRecord) -> None:
    line = encode_record(record)
    assert "\n" not in line
    assert decode_record(line, "here") == record


@given(any_float, any_float)
def test_lines_are_standard_json(value: float, other: float) -> None:
    interval = Interval(min(other, value), max(other, value), 0.95, "sampling", "b")
    record = RunRecord(
        kind="eval",
        subject="m",
        metrics=(MetricValue(name="FD", value=value, n=1, interval=interval),),
        measurements=(Measurement(name="latency", unit="s", samples=(value, 1.0)),),
        provenance={"a": [other, {"b": value}]},
    )

    def refuse(token: str) -> None:
        raise AssertionError(f"bare {token}")

    json.loads(encode_record(record), parse_constant=refuse)
    back = decode_record(encode_record(record), "here")
    if not math.isfinite(value):
        assert back.metrics[0].value is None
        assert "not finite" in back.metrics[0].note
        assert back.measurements[0].samples == (1.0,)
        assert "1 of 2 samples" in back.measurements[0].note


def test_numpy_and_torch_scalars_become_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    record = RunRecord(kind="eval", subject="m", tables={"t": [{"a": numpy.float32(0.5), "b": numpy.int64(3)}]})
    assert decode_record(encode_record(record), "here").tables["t"] == [{"a": 0.5, "b": 3}]


def test_a_truncated_line_is_named_and_leaves_the_next_intact(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    store.append(RunRecord(kind="eval", subject="first"))
    whole = store.path.read_text()
    store.path.write_text(whole + whole[: len(whole) // 2])
    store.append(RunRecord(kind="eval", subject="third"))
    with pytest.raises(InputError, match=r"records\.jsonl:2: broken line"):
        store.records()
    lines = store.path.read_text().splitlines()
    store.path.write_text("\n".join([lines[0], lines[2]]) + "\n")
    assert [record.subject for record in store.records()] == ["first", "third"]


def _edited(**changes: Any) -> str:
    """A record edited by hand."""
    metric = MetricValue(name="FD", value=1.0, n=1)
    return encode_record(RunRecord(kind="eval", subject="a", metrics=(dataclasses.replace(metric, **changes),)))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[1]", "expected a JSON object"),
        ("nonsense", "broken line"),
        ('{"kind": "eval", "subject": "a", "schema_version": 99}', "newer"),
        ('{"kind": "eval", "subject": "a"}', "schema_version is None"),
        ('{"kind": "eval", "subject": "a", "schema_version": 1, "metric": []}', "did you mean 'metrics'"),
        ('{"kind": "evaluate", "subject": "a", "schema_version": 1}', "'kind' = 'evaluate'"),
        ('{"kind": "eval", "subject": "a", "schema_version": 1, "metrics": [{"name": "FD", "value": 1}]}', "metrics.0.n"),
        ('{"kind": "eval", "subject": "a", "schema_version": 0}', "schema_version is 0"),
        (_edited(value=1.0).replace('"value": 1.0', '"value": NaN'), "NaN found"),
        (_edited(value=1.0).replace('"value": 1.0', '"value": 1e999'), "value = inf"),
        (_edited(interval=Interval(2.0, 1.0, 0.95, "sampling", "")), "interval 2.0 to 1.0"),
        (_edited(interval=Interval(0.0, 1.0, 1.0, "sampling", "")), "level 1.0"),
    ],
)
def test_broken_lines_are_refused(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "r.jsonl"
    file.write_text(encode_record(RunRecord(kind="eval", subject="ok")) + "\n" + line + "\n")
    with pytest.raises(InputError) as caught:
        read_records(file)
    assert "r.jsonl:2" in str(caught.value)
    assert message in str(caught.value)


def test_select_and_folders(tmp_path: Path) -> None:
    for name in ("a", "b"):
        store = ResultStore(tmp_path / name)
        store.append(RunRecord(kind="eval", subject=name, family="nvg"))
        store.append(RunRecord(kind="profile", subject=name, family="nvg"))
    ResultStore(tmp_path).append(RunRecord(kind="eval", subject="root"))
    assert len(read_records(tmp_path)) == 5
    assert [r.subject for r in Records.read(tmp_path / "a").select(kind="eval", family="nvg")] == ["a"]
    assert ResultStore(tmp_path / "none").records() == []
    with pytest.raises(InputError, match="did you mean 'family'"):
        Records.read(tmp_path / "a").select(famly="nvg")
    with pytest.raises(InputError, match="no records at"):
        read_records(tmp_path / "missing.jsonl")
    located = located_records(tmp_path / "b")[1]
    assert located.line == 2
    assert located.artifact_path("samples/x.png") == tmp_path / "b" / "samples" / "x.png"


def test_records_of_other_alphabets_and_separators(tmp_path: Path) -> None:
    store = ResultStore(tmp_path)
    record = RunRecord(kind="eval", subject="名前 \u2028 \x85 é")
    store.append(record)
    assert store.records() == [record]
    assert dataclasses.asdict(store.records()[0]) == dataclasses.asdict(record)
