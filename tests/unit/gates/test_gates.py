from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from nvgbench.cli import gate as gate_command
from nvgbench.errors import InputError
from nvgbench.gates.baseline import read_baseline, write_baseline
from nvgbench.gates.rules import Rule, load_rules, rule_for
from nvgbench.gates.schema import Verdict
from nvgbench.gates.verdicts import evaluate_gates, gate_fails
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import ResultStore
from nvgbench.types import Interval, Measurement, MetricValue

RULES = load_rules()


def metric(name: str, value: float | None, half: float | None = 0.1, better: bool | None = False, n: int = 1000) -> MetricValue:
    interval = None if half is None or value is None else Interval(value - half, value + half, 0.95, "sampling", "bootstrap")
    return MetricValue(name=name, value=value, n=n, n_reference=500, higher_is_better=better, interval=interval)


def evaluation(*metrics: MetricValue, subject: str = "model", **changes) -> RunRecord:
    return RunRecord(kind="eval", subject=subject, metrics=metrics, **changes)


def profile(seconds: tuple[float, ...], gpu: str = "G", flops: float = 1e9) -> RunRecord:
    return RunRecord(
        kind="profile",
        subject="model",
        measurements=(
            Measurement(name="latency", unit="s", samples=seconds, conditions={"batch_size": 1}),
            Measurement(name="flops", unit="FLOP/image", samples=(flops,), conditions={"batch_size": 1}),
            Measurement(name="energy", unit="J/image", samples=(), note="not available: CPU"),
        ),
        provenance={"machine": {"gpu": gpu, "cpu": "C", "cores": 2}, "device": {"device": "cuda:0"}},
    )


def judge(old: MetricValue, new: MetricValue, *rules: Rule) -> Verdict:
    (verdict,) = evaluate_gates(rules or RULES, [evaluation(old)], [evaluation(new)])
    return verdict


@pytest.mark.parametrize(
    ("new", "outcome", "word"),
    [
        (metric("FD[x]", 10.0), "pass", "within"),
        (metric("FD[x]", 10.1), "pass", "within"),
        (metric("FD[x]", 12.0), "fail", "worse"),
        (metric("FD[x]", 8.0), "fail", "suspiciously good"),
        (metric("FD[x]", 10.5, half=2.0), "inconclusive", "noise could explain"),
        (metric("FD[x]", 12.0, half=None), "inconclusive", "without intervals"),
        (metric("FD[x]", None), "inconclusive", "no value"),
    ],
)
def test_interval_verdicts(new: MetricValue, outcome: str, word: str) -> None:
    verdict = judge(metric("FD[x]", 10.0), new)
    assert verdict.outcome == outcome
    assert word in verdict.reason


def test_tolerance_needs_no_interval_and_knows_directions() -> None:
    rule = Rule(match="*", kind="tolerance", absolute=0.5)
    one_sided = dataclasses.replace(rule, two_sided=False)
    old = metric("precision[x]", 5.0, None, better=True)
    assert judge(old, metric("precision[x]", 4.4, None, better=True), rule).outcome == "fail"
    assert judge(old, metric("precision[x]", 5.6, None, better=True), rule).outcome == "fail"
    assert judge(old, metric("precision[x]", 5.6, None, better=True), one_sided).outcome == "pass"
    assert judge(old, metric("precision[x]", 4.4, None, better=True), one_sided).outcome == "fail"
    assert judge(old, metric("precision[x]", 5.5, None, better=True), rule).outcome == "pass"
    advisory = judge(old, metric("precision[x]", 1.0, None, better=True), dataclasses.replace(rule, blocking=False))
    assert advisory.outcome == "fail"
    assert not gate_fails([advisory])


def test_missing_and_new_metrics() -> None:
    old, new = evaluation(metric("FD[x]", 1.0), metric("IS[x]", 2.0)), evaluation(metric("FD[x]", 1.0))
    verdicts = evaluate_gates(RULES, [old], [new])
    assert [(v.metric, v.outcome) for v in verdicts] == [("FD[x]", "pass"), ("IS[x]", "inconclusive")]
    with pytest.raises(InputError, match="no record has a subject of the baseline, which holds model"):
        evaluate_gates(RULES, [evaluation(metric("FD[x]", 1.0))], [evaluation(metric("FD[x]", 1.0), subject="other")])


@pytest.mark.parametrize("change", [{"n": 999}, {"n_reference": 1}, {"protocol": "nvgbench/0"}])
def test_unequal_scores_are_refused(change: dict) -> None:
    old = metric("FD[x]", 1.0)
    with pytest.raises(InputError, match="not comparable"):
        evaluate_gates(RULES, [evaluation(old)], [evaluation(dataclasses.replace(old, **change))])


def test_another_extractor_is_refused() -> None:
    old, new = (evaluation(metric("FD[x]", 1.0), provenance={"extractor": {"fingerprint": mark}}) for mark in "ab")
    with pytest.raises(InputError, match="extractor differs: a and b"):
        evaluate_gates(RULES, [old], [new])


def test_the_same_code_twice_seldom_fails_and_a_planted_regression_does() -> None:
    """The promised rate of false alarms over many metrics, and power against a change of ten standard errors."""
    rng = np.random.default_rng(0)
    names = [f"metric-{index}" for index in range(20)]
    rules = [Rule(match="*")]  # no margin: the hardest case for false alarms

    def draw(shift: float = 0.0) -> RunRecord:
        values = 10 + rng.normal(size=len(names))
        values[0] += shift
        return evaluation(*(metric(name, value, half=1.959964) for name, value in zip(names, values, strict=True)))

    runs, alarms, caught = 300, 0, 0
    for _ in range(runs):
        alarms += gate_fails(evaluate_gates(rules, [draw()], [draw()]))
        caught += gate_fails(evaluate_gates(rules, [draw()], [draw(shift=10.0)]))
    # 5 % promised; with 300 runs the standard error is 1.3 %, so 9 % is three of them above
    assert alarms / runs <= 0.09
    assert caught / runs >= 0.99


def test_measurements_are_held_against_the_same_machine_only() -> None:
    def outcomes(new: RunRecord) -> dict[str, str]:
        return {v.metric: v.outcome for v in evaluate_gates(RULES, [profile((1.0, 1.1, 0.9))], [new])}

    assert outcomes(profile((1.0, 1.05, 0.95))) == {"latency (batch 1)": "pass", "flops (batch 1)": "pass"}
    assert outcomes(profile((2.0, 2.1, 1.9)))["latency (batch 1)"] == "fail"
    assert outcomes(profile((0.2, 0.2, 0.2)))["latency (batch 1)"] == "pass"
    assert outcomes(profile((2.0, 2.0), gpu="other")) == {"latency (batch 1)": "inconclusive", "flops (batch 1)": "pass"}
    assert outcomes(profile((1.0,), flops=2e9))["flops (batch 1)"] == "fail"
    assert outcomes(profile(()))["latency (batch 1)"] == "inconclusive"


def test_rules_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('[[rule]]\nmatch = "FD[x]"\nkind = "tolerance"\nabsolute = 1.5\n')
    (rule,) = load_rules(file)
    assert rule_for("FD[x]", [rule]) == rule
    assert rule_for("FDx", [rule]) is None
    assert rule.margin(100.0) == 1.5
    assert rule_for("FD[dinov2]", RULES).relative == 0.02
    for text, message in [
        ('[[rule]]\nmatch = "a"\nrelativ = 1', "relativ"),
        ('[[rule]]\nmatch = "a"\nabsolute = -1', "absolute"),
        ("[[rule]", "not valid TOML"),
        ("x = 1", "unknown key 'x'"),
        ("", "holds none"),
    ]:
        file.write_text(text)
        with pytest.raises(InputError, match=message.replace("[", r"\[")):
            load_rules(file)
    with pytest.raises(InputError, match="no rules at"):
        load_rules(tmp_path / "none.toml")


def test_baseline_round_trip_and_tampering(tmp_path: Path) -> None:
    file = tmp_path / "baseline.json"
    old = evaluation(metric("FD[x]", 9.0), created="2026-01-01T00:00:00+00:00", tables={"long": [{"a": 1}]})
    new = evaluation(metric("FD[x]", 10.0), created="2026-01-02T00:00:00+00:00")
    assert write_baseline(file, [new, old, RunRecord(kind="train", subject="model")]) == 1
    assert read_baseline(file) == [new]
    other = evaluation(metric("IS[x]", 5.0), created="2026-01-01T12:00:00+00:00")
    assert write_baseline(file, [new, old, other]) == 2
    assert read_baseline(file) == [other, new]
    assert write_baseline(file, [new, old]) == 1
    with pytest.raises(InputError, match="no scores"):
        write_baseline(file, [RunRecord(kind="train", subject="model")])

    # Reformatting is no change of content; a changed digit is.
    file.write_text(json.dumps(json.loads(file.read_text())))
    assert read_baseline(file) == [new]
    file.write_text(file.read_text().replace('"value": 10.0', '"value": 11.0'))
    with pytest.raises(InputError, match="was changed since it was written"):
        read_baseline(file)
    for text, message in [
        ("{", "is broken"),
        ("[]", "is not a baseline"),
        ('{"format": "nvgbench-baseline"}', "not a baseline"),
    ]:
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            read_baseline(file)


class TestCommand:
    @pytest.fixture
    def app(self) -> typer.Typer:
        app = typer.Typer()
        app.callback()(lambda: None)
        gate_command.register(app)
        return app

    def run(self, app: typer.Typer, *arguments: str | Path):
        return CliRunner().invoke(app, ["gate", *map(str, arguments)])

    def test_exit_codes(self, app: typer.Typer, tmp_path: Path) -> None:
        runs, file = tmp_path / "runs", tmp_path / "baseline.json"
        store = ResultStore(runs / "model")
        store.append(evaluation(metric("FD[x]", 10.0), created="2026-01-01T00:00:00+00:00"))
        assert self.run(app, "--baseline", file, "--update", "--runs", runs).exit_code == 0
        passed = self.run(app, "--baseline", file, "model", "--runs", runs)
        assert (passed.exit_code, passed.output.splitlines()[-1]) == (0, "passed: 1 pass, 0 fail, 0 inconclusive")

        store.append(evaluation(metric("FD[x]", 20.0), created="2026-01-02T00:00:00+00:00"))
        failed = self.run(app, "--baseline", file, "--records", store.path, "--json")
        assert failed.exit_code == 1
        tree = json.loads(failed.output)
        assert tree["failed"] is True
        assert tree["verdicts"][0]["outcome"] == "fail"

        missing = self.run(app, "--baseline", tmp_path / "none.json", "--runs", runs)
        assert isinstance(missing.exception, InputError)
        unknown = self.run(app, "--baseline", file, "modle", "--runs", runs)
        assert "did you mean 'model'" in str(unknown.exception)
