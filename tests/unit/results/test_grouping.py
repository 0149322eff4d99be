from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from scipy import stats

from nvgbench.errors import InputError
from nvgbench.results.compare import latest_metrics, why_not_comparable
from nvgbench.results.grouping import members, over_sampling_seeds, replicate_of, t_interval, training_groups
from nvgbench.results.schema import RunRecord
from nvgbench.types import MetricValue
from tests.helpers.replicates import replicate


def record(subject: str, value: float, *, seed: int = 0, n: int = 100, extra: bool = False, **origin: Any) -> RunRecord:
    metrics = [MetricValue(name="FD[x]", value=value, n=n, n_reference=50, higher_is_better=False)]
    if extra:
        metrics.append(MetricValue(name="IS[x]", value=1.0, n=n))
    provenance = {"seeds": {"sampling": seed}, **origin}
    return RunRecord(kind="eval", subject=subject, preset="tiny", metrics=tuple(metrics), provenance=provenance)


def trained(name: str, seed: int, value: float, **changes: Any) -> RunRecord:
    """An evaluation of one training of the group ``name``."""
    return record(f"{name}-{seed}", value, **changes, **replicate(name, seed))


def test_students_interval_equals_scipys_and_names_what_it_covers() -> None:
    values = [3.0, 3.5, 2.5, 3.2]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    found = t_interval(values, "training")
    assert (found.low, found.high) == pytest.approx(expected)
    assert (found.source, found.method) == ("training", "Student's t over 4 training runs")
    with pytest.raises(InputError, match="expected at least 2"):
        t_interval([1.0], "sampling")


def test_students_interval_covers_the_mean() -> None:
    rng = np.random.default_rng(0)
    found = [t_interval(list(rng.standard_normal(5)), "training") for _ in range(1000)]
    assert 0.93 < np.mean([one.low <= 0 <= one.high for one in found]) < 0.97


def test_trainings_with_several_seeds_make_one_record() -> None:
    records = [trained("m", 1, 2.0), trained("m", 0, 1.0, extra=True), trained("m", 2, 3.0), record("other", 9.0)]
    records += [trained("lonely", 0, 1.0), trained("m", 2, 4.0)]
    (group,) = training_groups(records)
    assert group.subject == "m"
    (metric,) = group.metrics
    assert metric.value == pytest.approx((1 + 2 + 4) / 3)  # the newest of each run
    assert metric.interval is not None
    assert metric.interval.source == "training"
    assert group.provenance["seeds"]["training_seeds"] == [0, 1, 2]
    (rows,) = group.tables.values()
    assert rows[0] == {"score": "FD[x]", "m-0": 1.0, "m-1": 2.0, "m-2": 4.0}
    assert members(group) == ("m-0", "m-1", "m-2")
    assert replicate_of(group) is None
    assert training_groups([*records, group])[0].metrics == group.metrics


def test_incomparable_scores_are_not_averaged() -> None:
    assert training_groups([trained("m", 0, 1.0), trained("m", 1, 2.0, n=99)]) == []


def group_of(*records: RunRecord, taken: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    return {group.subject: members(group) for group in training_groups(records, taken=taken)}


def test_trainings_are_known_by_configuration_not_by_name() -> None:
    """Neither digits in the names of folders nor common prefixes matter."""
    alone = {"replicate": {"of": "c" * 16}}

    def run(subject: str, seed: int, of: str = "c" * 16) -> RunRecord:
        return record(subject, 1.0 + seed, **{"replicate": {**alone["replicate"], "of": of, "seed": seed}})

    assert group_of(record("m-seed0", 1.0), record("m-seed1", 2.0)) == {}
    assert group_of(run("m-seed0", 0), run("m-seed1", 1, of="d" * 16)) == {}
    # Without a common name, the group has the preset's; if that is a subject's, the configuration's hash is added.
    assert group_of(run("first", 0), run("second", 7)) == {"tiny": ("first", "second")}
    assert group_of(run("tiny", 0), run("second", 7)) == {"tiny (cccccccc)": ("tiny", "second")}
    assert group_of(run("first", 0), run("second", 7), taken=("tiny",)) == {"tiny (cccccccc)": ("first", "second")}
    both = [run(f"{of}{seed}", seed, of=of * 16) for of in "cd" for seed in (0, 1)]
    assert group_of(*both) == {"tiny": ("c0", "c1"), "tiny (dddddddd)": ("d0", "d1")}


def test_a_seed_counts_once() -> None:
    """A run of the same configuration and seed is the same model, not another sample of it."""
    again = record("again", 1.0, replicate={**replicate("m", 0)["replicate"], "name": ""})
    for records in ([again, trained("m", 0, 1.0)], [trained("m", 0, 1.0), again]):
        assert group_of(*records) == {}
        assert group_of(*records, trained("m", 1, 2.0)) == {"m": ("m-0", "m-1")}


@pytest.mark.parametrize(
    ("name", "values", "low", "high"),
    [
        ("precision", (0.01, 0.06), 0.0, None),
        ("recall[dinov2]", (0.9, 0.99), None, 1.0),
        ("FD[x]", (0.1, 3.0), 0.0, None),
        ("KID", (-0.1, 0.2), None, None),
        ("SSIM", (-0.9, 0.9), -1.0, 1.0),
        ("unheard-of", (-5.0, 5.0), None, None),
    ],
)
def test_intervals_are_clipped_to_the_range_of_the_score(
    name: str, values: tuple[float, ...], low: float | None, high: float | None
) -> None:
    free = t_interval(values, "training")
    for source in ("training", "sampling"):
        records = [
            RunRecord(
                kind="eval",
                subject=f"m-{seed}" if source == "training" else "m",
                metrics=(MetricValue(name=name, value=value, n=100),),
                provenance={"seeds": {"sampling": seed}, **(replicate("m", seed) if source == "training" else {})},
            )
            for seed, value in enumerate(values)
        ]
        (group,) = training_groups(records) if source == "training" else [over_sampling_seeds(records)]
        (metric,) = group.metrics
        assert metric.interval is not None
        assert metric.interval.low == pytest.approx(free.low if low is None else low)
        assert metric.interval.high == pytest.approx(free.high if high is None else high)
        # The standard error, which gates use, is not clipped.
        assert metric.stderr == pytest.approx(stats.sem(values))


def by_rules(subject: str, value: float, *protocols: str, network: str = "", **more) -> RunRecord:
    metrics = tuple(MetricValue(name="FID", value=value, n=100, higher_is_better=False, protocol=one) for one in protocols)
    provenance = {"seeds": {"sampling": more.pop("seed", 0)}, "extractor": {"fingerprint": network}, **more.pop("origin", {})}
    return RunRecord(kind="eval", subject=subject, metrics=metrics, provenance=provenance, **more)


def test_each_protocol_has_its_own_mean_over_trainings() -> None:
    """And its own provenance, by which it is compared, whatever the order of the evaluations."""
    origins = [replicate("m", seed) for seed in range(2)]
    records = [by_rules(f"m-{s}", 1.0 + s, "nvgbench/2", network="ours", origin=o) for s, o in enumerate(origins)]
    records += [by_rules(f"m-{s}", 5.0 + s, "adm/1", network="theirs", origin=o) for s, o in enumerate(origins)]
    single = by_rules("other", 7.0, "adm/1", network="theirs")
    for order in (records, records[::-1]):
        found = latest_metrics([*training_groups(order), single], ["eval"])
        assert {key: one.metric.value for key, one in found["m"].items()} == {"FID": 1.5, "FID (adm)": 5.5}
        assert why_not_comparable(found["m"]["FID (adm)"], found["other"]["FID (adm)"]) is None
        assert found["m"]["FID"].record.provenance["extractor"] == {"fingerprint": "ours"}


def test_protocols_of_one_record_are_averaged_separately() -> None:
    records = [by_rules("m", 1.0 + seed, "nvgbench/2", "adm/1", seed=seed) for seed in range(2)]
    group = over_sampling_seeds(records)
    assert [(metric.protocol, metric.value) for metric in group.metrics] == [("nvgbench/2", 1.5), ("adm/1", 1.5)]
    (rows,) = group.tables.values()
    assert [row["score"] for row in rows] == ["FID", "FID (adm)"]
    with pytest.raises(InputError, match="no score that is comparable"):
        over_sampling_seeds([by_rules("m", 1.0, "nvgbench/2"), by_rules("m", 2.0, "adm/1", seed=1)])


def test_sampling_seeds() -> None:
    group = over_sampling_seeds([record("m", value, seed=seed) for seed, value in enumerate((1.0, 2.0, 6.0))])
    assert group.metrics[0].value == 3
    assert group.metrics[0].n == 100
    assert group.metrics[0].interval is not None
    assert group.metrics[0].interval.source == "sampling"
    assert group.provenance["seeds"]["sampling"] == [0, 1, 2]
    for records in ([record("m", 1.0)], [record("m", 1.0), record("m", 2.0)], [record("m", 1.0), record("k", 2.0, seed=1)]):
        with pytest.raises(InputError, match="different seeds"):
            over_sampling_seeds(records)


def test_a_group_of_changed_settings_is_named_after_them() -> None:
    changed = {"model.structure_rope": False}
    records = [trained("plain", seed, 1.0 + seed, changed=changed) for seed in range(2)]
    records = [dataclasses.replace(one, provenance=_unnamed(one)) for one in records]
    (group,) = training_groups(records)
    assert group.subject == "tiny (model.structure_rope=false)"
    assert group.provenance["changed"] == changed


def _unnamed(one: RunRecord) -> dict[str, Any]:
    return {**one.provenance, "replicate": {**one.provenance["replicate"], "name": ""}}
