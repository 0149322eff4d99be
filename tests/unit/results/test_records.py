"""Records as a sequence and as a table."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nvgbench.errors import InputError
from nvgbench.results.records import Records
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import ResultStore
from nvgbench.types import Interval, Measurement, MetricValue
from tests.helpers.replicates import replicate

ROOT = Path(__file__).parents[3]
FID = MetricValue(
    name="FID", value=3.0, n=100, n_reference=50, higher_is_better=False, interval=Interval(2.0, 4.0, 0.95, "sampling", "j")
)
EVAL = RunRecord(
    kind="eval",
    subject="a",
    family="nvg",
    preset="nvg-tiny",
    metrics=(FID, MetricValue(name="LPIPS", value=None, n=100, note="no weights")),
    provenance={"extractor": {"name": "inception", "fingerprint": "e"}, "reference": {"fingerprint": "r"}, **replicate("a", 3)},
)
PROFILE = RunRecord(
    kind="profile",
    subject="b",
    measurements=(Measurement(name="latency", unit="s", samples=(1.0, 3.0, 2.0), conditions={"batch_size": 1}),),
    provenance={"machine": {"cpu": "C"}, "device": "cpu"},
)


def test_records_are_a_sequence() -> None:
    records = Records([EVAL, PROFILE])
    assert (len(records), records[0], list(records[1:])) == (2, EVAL, [PROFILE])
    assert records == Records((EVAL, PROFILE)) != Records()
    assert repr(records) == "<2 records: 1 eval, 1 profile; of a, b>"
    assert "<table" in records._repr_html_()
    assert list(records.select(kind="eval", subject="a")) == [EVAL]
    assert repr(records.select(kind="train")) == "<0 records>"
    with pytest.raises(InputError, match="did you mean 'family'"):
        records.select(famly="nvg")


def test_records_are_read_from_any_path(tmp_path: Path) -> None:
    ResultStore(str(tmp_path / "run")).append(EVAL)
    assert Records.read(tmp_path) == Records.read(str(tmp_path / "run" / "records.jsonl")) == Records([EVAL])
    with pytest.raises(InputError, match="no records at"):
        Records.read(str(tmp_path / "missing"))


def test_the_frame_has_a_row_per_score_and_measurement() -> None:
    frame = Records([EVAL, PROFILE]).to_frame()
    assert list(frame.metric) == ["FID", "LPIPS", "latency, batch 1"]
    fid, lpips, latency = (frame.iloc[row] for row in range(3))
    assert (fid.subject, fid.family, fid.preset, fid.kind) == ("a", "nvg", "nvg-tiny", "eval")
    assert (fid.value, fid.low, fid.high, fid.level, fid.covers) == (3.0, 2.0, 4.0, 0.95, "sampling")
    assert (fid.n, fid.n_reference, fid.protocol, fid.extractor, fid.reference) == (100, 50, "nvgbench/2", "e", "r")
    assert not fid.higher_is_better
    assert (fid.replicate_of, fid.training_seed) == (replicate("a", 0)["replicate"]["of"], 3)
    assert math.isnan(lpips.value)
    assert lpips.note == "no weights"
    assert (latency.value, latency.low, latency.high, latency.covers, latency.unit) == (2.0, 1.0, 3.0, "repetitions", "s")
    assert latency.device == "C"
    assert frame.n.dtype == "Int64"
    assert frame.n.isna().tolist() == [False, False, True]
    assert Records().to_frame().empty
    assert list(Records().to_frame().columns) == list(frame.columns)


def test_the_committed_records_make_a_frame() -> None:
    frame = Records.read(ROOT / "reports" / "cifar10").to_frame()
    assert {"nvg-cifar10-cpu", "var-cifar10-cpu", "ar-cifar10-cpu"} <= set(frame.subject)
    best = frame[frame.metric == "FD[classifier]"].groupby("subject").value.min()
    assert best.notna().all()
