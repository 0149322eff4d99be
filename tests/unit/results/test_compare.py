from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvgbench.errors import InputError
from nvgbench.results.compare import (
    Margin,
    Scored,
    compare,
    compare_all,
    difference_interval,
    latest_metrics,
    score_key,
    standard_error,
    why_not_comparable,
)
from nvgbench.results.protocols import PROTOCOLS
from nvgbench.results.schema import RunRecord
from nvgbench.types import Interval, MetricValue


def scored(
    value: float | None, half: float | None = 1.0, *, subject: str = "a", better: bool | None = False, **changes
) -> Scored:
    interval = None if half is None or value is None else Interval(value - half, value + half, 0.95, "sampling", "bootstrap")
    provenance = changes.pop("provenance", {"reference": {"name": "shapes", "fingerprint": "f"}})
    metric = MetricValue(name="FD[x]", value=value, n=100, n_reference=50, higher_is_better=better, interval=interval)
    metric = dataclasses.replace(metric, **changes)
    return Scored(metric, RunRecord(kind="eval", subject=subject, metrics=(metric,), provenance=provenance))


@pytest.mark.parametrize(
    ("old", "new", "better", "outcome"),
    [
        (10.0, 20.0, False, "worse"),
        (10.0, 20.0, True, "better"),
        (10.0, 20.0, None, "different"),
        (20.0, 10.0, False, "better"),
        (10.0, 11.0, False, "inconclusive"),  # 1 is below the square root of 1² + 1²
        (10.0, 11.5, False, "worse"),
    ],
)
def test_outcomes(old: float, new: float, better: bool | None, outcome: str) -> None:
    assert compare(scored(old, better=better), scored(new, better=better)).verdict == outcome


def test_without_intervals_nothing_is_decided() -> None:
    found = compare(scored(1.0, None), scored(9.0))
    assert (found.value, found.interval, found.verdict) == (8.0, None, "inconclusive")


@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(0, 5), st.floats(0, 5))
def test_the_interval_changes_sign_with_the_order(a: float, b: float, half_a: float, half_b: float) -> None:
    x, y = scored(a, half_a).metric, scored(b, half_b).metric
    found, turned = difference_interval(x, y), difference_interval(y, x)
    assert found is not None
    assert turned is not None
    assert (found.low, found.high) == pytest.approx((-turned.high, -turned.low))
    assert found.low <= b - a + 1e-9
    assert b - a <= found.high + 1e-9


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n": 99}, "number of images differs: 100 and 99"),
        ({"n_reference": 49}, "number of reference images differs"),
        ({"protocol": "other/1"}, "protocol differs"),
        ({"name": "FID"}, "metric differs"),
        ({"provenance": {"reference": {"name": "shapes", "fingerprint": "g"}}}, "reference differs: f and g"),
    ],
)
def test_scores_that_differ_in_definition_are_not_compared(changes: dict, reason: str) -> None:
    other = scored(1.0, subject="b", **changes)
    assert reason in (why_not_comparable(scored(1.0), other) or "")
    with pytest.raises(InputError, match="not comparable"):
        compare(scored(1.0), other)


def test_a_reference_that_only_one_record_names_may_be_another() -> None:
    known, unknown = scored(1.0), scored(1.0, provenance={})
    assert why_not_comparable(known, unknown) == "the second record names no reference"
    assert why_not_comparable(unknown, known) == "the first record names no reference"
    assert why_not_comparable(unknown, unknown) is None


def test_reconstructions_have_a_reference_of_their_own() -> None:
    origins = [{"reference": {"fingerprint": f}, "reconstruction_reference": {"fingerprint": "own"}} for f in "fg"]
    for name in ("rFD[x]", "rFID", "PSNR"):
        a, b = (scored(1.0, name=name, provenance=origin) for origin in origins)
        assert why_not_comparable(a, b) is None
        unnamed = scored(1.0, name=name, provenance={"reference": {"fingerprint": "own"}})
        assert why_not_comparable(a, unnamed) == "the second record names no reference"
    a, b = (scored(1.0, provenance=origin) for origin in origins)
    assert why_not_comparable(a, b) == "reference differs: f and g"


def test_equal_fingerprints_under_other_names_are_the_same() -> None:
    assert why_not_comparable(scored(1.0), scored(1.0, provenance={"reference": {"name": "copy", "fingerprint": "f"}})) is None


def test_pixel_scores_do_not_depend_on_the_extractor() -> None:
    origins = ({"extractor": {"fingerprint": mark}} for mark in "ab")
    a, b = (scored(1.0, name="PSNR", provenance=origin) for origin in origins)
    assert why_not_comparable(a, b) is None


def test_a_missing_value_is_not_compared() -> None:
    with pytest.raises(InputError, match="has no value: too few"):
        compare(scored(1.0), scored(None, note="too few images"))


def test_the_newest_value_of_each_metric_counts() -> None:
    def record(created: str, **values: float) -> RunRecord:
        metrics = tuple(MetricValue(name=name, value=value, n=1) for name, value in values.items())
        return RunRecord(kind="eval", subject="a", metrics=metrics, created=created)

    records = [record("2026-01-02", FID=2.0), record("2026-01-01", FID=1.0, IS=5.0), record("2026-01-02", FID=3.0)]
    found = latest_metrics([*records, RunRecord(kind="profile", subject="b")], ["eval"])
    assert {name: scored.metric.value for name, scored in found["a"].items()} == {"FID": 3.0, "IS": 5.0}
    assert list(found) == ["a"]


def test_keys_distinguish_protocols_but_not_their_versions() -> None:
    assert [score_key("FID", protocol) for protocol in ("nvgbench/2", "nvgbench/1", "")] == ["FID"] * 3
    assert score_key("FID", "clean-fid:legacy_pytorch/1") == "FID (clean-fid:legacy_pytorch)"
    assert len({score_key("FID", protocol.tag) for protocol in PROTOCOLS.values()}) == len(PROTOCOLS)

    def record(day: int, value: float, protocol: str) -> RunRecord:
        metric = MetricValue(name="FID", value=value, n=1, protocol=protocol)
        return RunRecord(kind="eval", subject="a", metrics=(metric,), created=f"2026-01-0{day}")

    records = [record(1, 1.0, "nvgbench/2"), record(3, 3.0, "adm/2"), record(2, 2.0, "adm/1")]
    found = latest_metrics(records, ["eval"])["a"]
    assert {key: scored.metric.value for key, scored in found.items()} == {"FID": 1.0, "FID (adm)": 3.0}
    assert all(scored.key == key for key, scored in found.items())
    older = latest_metrics(records[2:], ["eval"])["a"]["FID (adm)"]
    with pytest.raises(InputError, match=r"^FID \(adm\) of 'a' and 'a' is not comparable: protocol differs: adm/1 and adm/2$"):
        compare(older, found["FID (adm)"])


def test_standard_error_of_a_normal_interval() -> None:
    assert standard_error(Interval(-1.959964, 1.959964, 0.95, "sampling", "")) == pytest.approx(1.0, rel=1e-6)


def filed(*found: Scored) -> dict[str, Scored]:
    return {one.key: one for one in found}


def test_a_comparison_maps_scores_to_differences() -> None:
    a = filed(scored(0.5, 0.1, name="recall[x]", better=True), scored(10.0), scored(2.0, name="KID"))
    b = filed(scored(20.0, subject="b"), scored(0.9, 0.1, name="recall[x]", better=True), scored(1.0, name="IS[x]"))
    found = compare_all(a, b, names=("a", "b"))
    # In the order of the table of scores, which begins with the Fréchet distance.
    assert list(found) == ["FD[x]", "recall[x]"]
    assert (found.verdict, found.difference) == ("worse", 10.0)
    assert found.interval is not None
    assert found.interval == found["FD[x]"].interval == compare(a["FD[x]"], b["FD[x]"]).interval
    assert (found.only_baseline, found.only_candidate) == (("KID",), ("IS[x]",))
    frame = found.to_frame()
    assert list(frame.index) == ["FD[x]", "recall[x]"]
    assert list(frame.verdict) == ["worse", "better"]
    assert frame.loc["FD[x]", "low"] == found.interval.low
    text = repr(found)
    assert text.splitlines()[0] == "b compared with a (difference: b minus a)"
    assert "worse         FD[x]      10 -> 20  +10 (+8.586 to +11.41; 95 %, sampling)" in text
    assert "only a has: KID" in text
    assert "<table" in found._repr_html_()
    assert list(compare_all(a, b, metrics=["recall[x]"])) == ["recall[x]"]
    with pytest.raises(InputError, match="did you mean 'recall"):
        compare_all(a, b, metrics=["recal"])
    with pytest.raises(InputError, match="no score in common"):
        compare_all(a, {})
    bare = compare_all(filed(scored(10.0, None)), b)
    assert (bare.verdict, bare.interval) == ("inconclusive", None)
    assert "(no interval)" in repr(bare)
    assert bare.to_frame().low.isna().all()


def test_margins_are_computed_once_per_pair_of_records() -> None:
    a, b = scored(10.0), scored(10.4, subject="b")
    both = [(a, b), (dataclasses.replace(a, metric=dataclasses.replace(a.metric, name="KD[x]")),
                     dataclasses.replace(b, metric=dataclasses.replace(b.metric, name="KD[x]")))]  # fmt: skip
    asked = []

    def margins(old: RunRecord, new: RunRecord) -> dict[str, Margin]:
        asked.append((old.id, new.id))
        return {"FD[x]": Margin(stderr=0.1, paired=True, method="pairs")}

    found = compare_all(*(filed(*side) for side in zip(*both, strict=True)), margins=margins)
    assert asked == [(a.record.id, b.record.id)]
    assert {key: (one.verdict, one.paired) for key, one in found.items()} == {
        "FD[x]": ("worse", True), "KD[x]": ("inconclusive", False),
    }  # fmt: skip
