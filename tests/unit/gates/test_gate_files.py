"""Rules from TOML, baselines with a checksum."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from nvgbench.errors import InputError
from nvgbench.gates.baseline import Baseline, read_baseline, update_baseline
from nvgbench.gates.idle import idle_rules
from nvgbench.gates.rules import load_rules
from nvgbench.results.schema import RunRecord
from nvgbench.results.scores import SCORES
from tests.helpers.gate_records import HERE, evaluation, metric

ROOT = Path(__file__).parents[3]


def test_rules_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('alpha = 0.01\n[[rule]]\nmetric = "FD[x]"\nkind = "tolerance"\nabsolute = 1.5\n')
    rules = load_rules(file)
    rule = rules.rule_for("FD[x]")
    assert rules.alpha == 0.01
    assert rule is not None
    assert rule.margin(100.0) == 1.5
    assert rules.rule_for("FDx") is None
    with pytest.raises(InputError, match="no rules at"):
        load_rules(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[[rule]]\nmetric="a"\n\n[[rule]]\nmetric="b"\nrelativ=1',
            "line 6, rule 2 .metric = 'b'.: unknown key 'relativ' .*'relative'",
        ),
        (
            '[[rule]]\nmetric = "a"\nabsolute = -1',
            "line 3, rule 1 .*: absolute = -1: .*greater than or equal to 0",
        ),
        ('[[rule]]\nmetric = "a"\nabsolute = nan', "line 3.*finite"),
        ('[[rule]]\nmetric = "a"\nrelative = true', "line 3.*relative = True: .*number"),
        ('[[rule]]\nmetric = "a"\nkind = "intervall"', "line 3.*kind = 'intervall' .did you mean 'interval'"),
        ('[[rule]]\nmetric = "a"\nseverity = "blockng"', "line 3.*did you mean 'blocking'"),
        ('[[rule]]\nmetric = "a"\nkind = "exact"\nrelative = 0.1', "line 4.*no effect with kind = 'exact'"),
        ('[[rule]]\nmetric = "a"\nkind = "tolerance"', "line 3.*needs relative or absolute"),
        ('# one\n[[rule]]\nkind = "exact"', r"line 2, rule 1: key 'metric' is missing"),
        ("alpha = 2\n[[rule]]\nmetric = 'a'", "line 1: alpha = 2"),
        ('[[rule]]\nmetric = "a"\nalpha = 0.1', "line 3.*unknown key 'alpha'"),
        ("[[rule]", "not valid TOML"),
        ("[[rules]]\nmetric = 'a'", "line 1: unknown key 'rules' .did you mean 'rule'"),
        ("alpah = 1", "line 1: unknown key 'alpah' .did you mean 'alpha'"),
        ("rule = 3", "found none"),
        ("", "found none"),
    ],
)
def test_broken_rules_are_named_by_line_and_key(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_rules(file)
    assert "\n" not in str(caught.value)


def test_the_built_in_rules_name_scores_and_measurements_that_exist() -> None:
    measured = {"latency", "throughput", "energy", "peak_memory_process", "peak_memory_cuda", "flops", "flops_analytic"}
    costs = {"parameters[x]", "memory_model[x]"}
    scores = {name for score in SCORES.values() for name in (score.name, f"{score.stem or score.name}[x]")}
    idle = [rule.metric for rule in load_rules().rules if not any(map(rule.fits, scores | measured | costs))]
    assert idle == []


def test_committed_rules_and_baselines_load() -> None:
    built_in = load_rules()
    dinov2, tiny = built_in.rule_for("FD[dinov2]"), load_rules(ROOT / "reports/gates/tiny.toml").rule_for("FD[classifier]")
    assert dinov2 is not None
    assert dinov2.relative == 0.02
    assert tiny is not None
    assert tiny.blocking
    assert not tiny.blocking_elsewhere
    quality = [rule for rule in load_rules(ROOT / "reports/gates/tiny.toml").rules if rule.kind != "exact"]
    assert list(load_rules(ROOT / "reports/gates/scores.toml").rules) == quality
    committed = read_baseline(ROOT / "reports/gates/baselines/tiny.json")
    assert idle_rules(load_rules(ROOT / "reports/gates/tiny.toml"), committed.records) == []
    assert {"nvg-tiny", "var-tiny", "ar-tiny", "nvg-d16", "var-d16"} <= set(committed.subjects)


def test_baseline_round_trip(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    old = evaluation(metric("FD[x]", 9.0), created="2026-01-01T00:00:00+00:00", tables={"long": [{"a": 1}]})
    new = evaluation(metric("FD[x]", 10.0), created="2026-01-02T00:00:00+00:00")
    assert update_baseline(file, [new, old, RunRecord(kind="train", subject="model")]).records == [new]
    assert read_baseline(file).records == [new]
    other = evaluation(metric("IS[x]", 5.0), created="2026-01-01T12:00:00+00:00")
    update_baseline(file, [new, old, other])
    assert read_baseline(file).records == [other, new]
    update_baseline(file, [old, new])
    assert read_baseline(file).records == [new]
    with pytest.raises(InputError, match="no scores"):
        update_baseline(file, [RunRecord(kind="train", subject="model")])


def test_a_baseline_keeps_the_newest_of_every_protocol(tmp_path: Path) -> None:
    ours, older, theirs = (
        evaluation(dataclasses.replace(metric("FID", 9.0), protocol=protocol), created=f"2026-01-0{day}T00:00:00+00:00")
        for day, protocol in ((1, "nvgbench/2"), (2, "adm/1"), (3, "adm/2"))
    )
    assert update_baseline(tmp_path / "baseline.json", [ours, older, theirs]).records == [ours, theirs]


def test_an_update_replaces_its_own_environment_and_subject_only(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    there = {**HERE, "machine": {"cpu": "D", "cores": 2}}
    a_here, a_there = (evaluation(metric("FD[x]", 1.0), subject="a", provenance=where) for where in (HERE, there))
    b_here = evaluation(metric("FD[x]", 2.0), subject="b", provenance=HERE)
    update_baseline(file, [a_here, b_here])
    update_baseline(file, [a_there])
    again = evaluation(metric("IS[x]", 3.0), subject="a", provenance={**HERE, "command": "nvgbench eval /home/me/a"})
    found = update_baseline(file, [again])
    assert read_baseline(file) == found
    assert [[record.subject for record in group.records] for group in found.groups] == [["b", "a"], ["a"]]
    assert found.groups[0].environment == {
        "device": "cpu",
        "cpu": "C",
        "cores": "2",
        "python": "3.11",
        "torch": "2.0",
        "numpy": "2.0",
    }
    assert found.groups[0].records[1].metrics == again.metrics
    assert "/home/me" not in file.read_text()


def test_an_edited_baseline_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    record = evaluation(metric("FD[x]", 10.0), provenance=HERE)
    update_baseline(file, [record])
    whole = file.read_text()

    # Reformatting does not change the content; a digit or an environment does.
    file.write_text(json.dumps(json.loads(whole)))
    assert read_baseline(file) == Baseline.of([record])
    for before, after in (
        ('"value": 10.0', '"value": 11.0'),
        ('"cpu": "C"', '"cpu": "D"'),
        ('"checksum": "', '"checksum": "0'),
    ):
        assert before in whole
        file.write_text(whole.replace(before, after))
        with pytest.raises(InputError, match="was changed since it was written"):
            read_baseline(file)
        with pytest.raises(InputError, match="was changed since it was written"):
            update_baseline(file, [record])
    for text, message in [
        ("{", "is broken"),
        (whole[: len(whole) // 2], "is broken"),
        ("[]", "is not a baseline"),
        ('{"format": "nvgbench-baseline"}', "version None, expected 2"),
    ]:
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            read_baseline(file)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is broken"):
        read_baseline(file)
