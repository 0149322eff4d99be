"""``nvgbench gate``: exit codes and what it writes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

from nvgbench.errors import InputError
from nvgbench.gates.outputs import as_junit, as_markdown, as_text
from nvgbench.gates.schema import Verdict
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import ResultStore, read_records
from tests.helpers.gate_records import HERE, evaluation, metric

VERDICTS = [
    Verdict(subject="a", metric="FD[x]", outcome="pass", reason="within the margin", baseline=1.0, value=1.25),
    Verdict(subject="a", metric="IS[x]", outcome="fail", reason="worse: beyond the margin", baseline=5.0, value=4.0),
    Verdict(subject="b|<c>\x01", metric="FD[x]", outcome="inconclusive", reason="not measured & lost"),
    Verdict(subject="b|<c>\x01", metric="KD[x]", outcome="fail", reason="worse", blocking=False),
]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """One run whose FD is 10, and a baseline of it."""
    store(tmp_path).append(evaluation(metric("FD[x]", 10.0), created="2026-01-01T00:00:00+00:00", provenance=HERE))
    return tmp_path


def store(root: Path) -> ResultStore:
    return ResultStore(root / "runs" / "model")


def run(app: typer.Typer, root: Path, *arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["gate", *map(str, arguments), "--runs", str(root / "runs")])


@pytest.mark.parametrize(
    ("value", "half", "code", "last"),
    [
        (10.0, 0.1, 0, "passed: 1 pass, 0 inconclusive, 0 fail"),
        (20.0, 0.1, 1, "FAILED: 0 pass, 0 inconclusive, 1 fail"),
        (5.0, 0.1, 1, "FAILED: 0 pass, 0 inconclusive, 1 fail"),
        (10.5, 2.0, 3, "INCONCLUSIVE: 0 pass, 1 inconclusive, 0 fail"),
    ],
)
def test_exit_codes(value: float, half: float, code: int, last: str, app: typer.Typer, runs: Path) -> None:
    file = runs / "baseline.json"
    assert run(app, runs, "--baseline", file, "--update").exit_code == 0
    store(runs).append(evaluation(metric("FD[x]", value, half), created="2026-01-02T00:00:00+00:00", provenance=HERE))
    for words in ((), ("check",)):
        done = run(app, runs, *words, "--baseline", file, "model")
        assert (done.exit_code, done.output.splitlines()[-1]) == (code, last)
    done = run(app, runs, "model", "--baseline", file, "--json", "-")
    tree = json.loads(done.output)
    assert (done.exit_code, tree["exit_code"]) == (code, code)
    assert sum(tree["counts"].values()) == len(tree["verdicts"]) == 1


def test_only_named_runs_are_judged(app: typer.Typer, runs: Path) -> None:
    """With names, the baseline's other subjects are ignored; without, each of them must have records."""
    file, root = runs / "baseline.json", runs / "runs"
    for subject in ("other", "third"):
        ResultStore(root / subject).append(evaluation(metric("FD[x]", 5.0), subject=subject, provenance=HERE))
    assert run(app, runs, "--baseline", file, "--update").exit_code == 0
    named = run(app, runs, "--baseline", file, "model")
    assert (named.exit_code, named.output.splitlines()[-1]) == (0, "passed: 1 pass, 0 inconclusive, 0 fail")
    by_file = run(app, runs, "--baseline", file, "--records", root / "model", "--records", root / "third")
    assert (by_file.exit_code, by_file.output.splitlines()[-1]) == (0, "passed: 2 pass, 0 inconclusive, 0 fail")
    ResultStore(root / "fresh").append(evaluation(metric("FD[x]", 5.0), subject="fresh", provenance=HERE))
    with_unknown = run(app, runs, "--baseline", file, "model", "fresh")
    assert with_unknown.exit_code == 0
    assert "fresh all" in with_unknown.output
    assert "not in the baseline; an update adds it (advisory)" in with_unknown.output
    with pytest.raises(InputError, match="no record has a subject of the baseline, which has model, other, third"):
        raise run(app, runs, "--baseline", file, "fresh").exception
    (root / "third" / "records.jsonl").write_text("")
    ResultStore(root / "third").append(RunRecord(kind="train", subject="third"))
    unscored = run(app, runs, "--baseline", file, "model", "third")
    assert unscored.exit_code == 3
    assert "not measured this time" in unscored.output
    everything = run(app, runs, "--baseline", file)
    assert everything.exit_code == 3
    assert "not measured this time" in everything.output


def test_bad_input_is_refused(app: typer.Typer, runs: Path) -> None:
    file = runs / "baseline.json"
    assert run(app, runs, "--baseline", file, "--update").exit_code == 0
    cases: list[tuple[tuple[str | Path, ...], str]] = [
        (("--baseline", runs / "none.json"), "no baseline at"),
        (("--baseline", file, "modle"), "did you mean 'model'"),
        (("--baseline", file, "--rules", runs / "none.toml"), "no rules at"),
        (("cost", "nvg-tinny"), "did you mean 'nvg-tiny'"),
        (("selftest", "--pairs", "3"), "at least 20 pairs"),
        (("selftest", "modle"), "did you mean 'model'"),
    ]
    for arguments, said in cases:
        failed = (
            run(app, runs, *arguments) if arguments[0] != "cost" else CliRunner().invoke(app, ["gate", *map(str, arguments)])
        )
        assert isinstance(failed.exception, InputError), arguments
        assert said in str(failed.exception)
    file.write_text(file.read_text().replace("10.0", "9.0"))
    assert "was changed since it was written" in str(run(app, runs, "--baseline", file).exception)
    assert run(app, runs).exit_code == 2  # no --baseline


def test_files_are_written_and_the_github_summary_only_when_asked(
    app: typer.Typer, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, summary = runs / "baseline.json", runs / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    run(app, runs, "--baseline", file, "--update")
    paths = {option: runs / "out" / option.strip("-") for option in ("--json", "--junit", "--markdown")}
    done = run(app, runs, "--baseline", file, *(word for pair in paths.items() for word in pair))
    assert done.output.splitlines()[-1].startswith("passed")
    assert json.loads(paths["--json"].read_text())["outcome"] == "pass"
    assert ElementTree.parse(paths["--junit"]).getroot().tag == "testsuites"
    assert paths["--markdown"].read_text().startswith("### nvgbench gate: passed")
    assert summary.read_text() == "before\n"
    run(app, runs, "--baseline", file, "--github-summary")
    assert summary.read_text().startswith("before\n### nvgbench gate: passed")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY")
    assert "--markdown" in str(run(app, runs, "--baseline", file, "--github-summary").exception)


def test_rules_that_fit_nothing_are_reported_in_every_output(app: typer.Typer, runs: Path) -> None:
    file, rules = runs / "baseline.json", runs / "rules.toml"
    extra = evaluation(metric("rFD[x]", 1.0), subject="other", provenance=HERE)
    ResultStore(runs / "runs" / "other").append(extra)
    run(app, runs, "--baseline", file, "--update")
    rules.write_text(
        "".join(f'[[rule]]\nmetric = "{name}"\nabsolute = 1.0\n' for name in ("FDD", "fd[y]*", "rFD*", "speed", "FD[?]"))
    )
    said = [
        'rule 1 (metric = "FDD") fits nothing (did you mean "FD[x]"?)',
        'rule 2 (metric = "fd[y]*") fits nothing (did you mean "FD[x]"?)',
        'rule 4 (metric = "speed") fits nothing',
    ]
    paths = {option: runs / "out" / option.strip("-") for option in ("--json", "--junit", "--markdown")}
    # A rule for a run that is not named is not idle.
    done = run(app, runs, "model", "--baseline", file, "--rules", rules, *(word for pair in paths.items() for word in pair))
    assert done.exit_code == 0
    assert done.output.splitlines()[-1] == "passed: 1 pass, 3 inconclusive (3 advisory), 0 fail"
    verdicts = json.loads(paths["--json"].read_text())["verdicts"]
    assert [one["reason"] for one in verdicts if one["subject"] == "rules"] == said
    skipped = ElementTree.parse(paths["--junit"]).findall("testsuite[@name='rules']/testcase/skipped")
    assert [one.get("message") for one in skipped] == [f"inconclusive: {line} (advisory)" for line in said]
    for line in said:
        assert f"{line} (advisory)" in done.output
        assert line.partition("[")[0] in paths["--markdown"].read_text().replace("\\", "")
    assert "fits nothing" not in run(app, runs, "model", "--baseline", file).output
    rules.write_text('[[rule]]\nmetric = "FDD"\n')
    assert said[0] in str(run(app, runs, "--baseline", file, "--rules", rules).exception)


def test_junit_has_the_structure_that_servers_expect() -> None:
    root = ElementTree.fromstring(as_junit(VERDICTS))
    tallies = {"tests": "4", "failures": "1", "errors": "1", "skipped": "1"}
    assert {key: root.get(key) for key in tallies} == tallies
    suites = root.findall("testsuite")
    assert [suite.get("name") for suite in suites] == ["a", "b|<c>\ufffd"]
    for suite in suites:
        cases = suite.findall("testcase")
        assert suite.get("tests") == str(len(cases))
        for tag, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert suite.get(attribute) == str(len(suite.findall(f"testcase/{tag}")))
        for case in cases:
            assert case.get("classname") == suite.get("name")
            assert case.get("name")
            assert float(case.get("time", "")) == 0
            assert [child.tag for child in case] in (["system-out"], ["failure"], ["error"], ["skipped"])
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "fail: worse: beyond the margin"
    assert failure.get("type") == "fail"


def test_markdown_and_text_survive_odd_names() -> None:
    lines = as_markdown(VERDICTS).splitlines()
    assert lines[0] == "### nvgbench gate: failed"
    assert lines[2] == "1 pass, 1 inconclusive, 2 fail (1 advisory)."
    rows = [line for line in lines if line.startswith("| ") and "---" not in line]
    assert [row.count("|") - row.count(r"\|") for row in rows] == [7] * 6
    assert rows[1].startswith("| fail | a | IS")
    assert any(r"b\|\<c\>" in row for row in rows)
    assert len(as_text([dataclasses.replace(VERDICTS[0], reason="two\nlines")]).splitlines()) == 2


def test_costs_of_presets_are_exact(app: typer.Typer, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "cost.jsonl"
    for _ in range(2):
        done = CliRunner().invoke(app, ["gate", "cost", "var-tiny", "--out", str(out)])
        assert done.exit_code == 0, done.exception
    (record,) = read_records(out)
    counted = {one.name: one.samples for one in record.measurements}
    assert counted["memory_model[tokenizer: weights]"] == (4 * counted["parameters[tokenizer]"][0],)
    assert all(len(samples) == 1 and samples[0].is_integer() for samples in counted.values())
    file = tmp_path / "baseline.json"
    for words, code in ((["--update"], 0), ([], 0)):
        done = run(app, tmp_path, "--baseline", file, "--records", out, *words)
        assert done.exit_code == code
    grown = [
        dataclasses.replace(one, samples=(one.samples[0] + 1,)) if one.name == "parameters[transformer]" else one
        for one in record.measurements
    ]
    ResultStore(out).append(dataclasses.replace(record, measurements=tuple(grown)))
    done = run(app, tmp_path, "--baseline", file, "--records", out)
    assert done.exit_code == 1
    assert "1 fail" in done.output.splitlines()[-1]


def test_selftest_command(app: typer.Typer, runs: Path) -> None:
    kept = run(app, runs, "selftest", "model", "--pairs", "40", "--json", "-")
    assert kept.exit_code == 0
    assert json.loads(kept.stdout)["broken"] is False
    sleepy = runs / "rules.toml"
    sleepy.write_text('[[rule]]\nmetric = "*"\nrelative = 0.9\n')
    broken = run(app, runs, "selftest", "model", "--pairs", "40", "--rules", sleepy)
    assert broken.exit_code == 1
    assert broken.output.splitlines()[-1] == "FAILED: a promise is broken"
