"""CI's gate on scores: the workflow's own commands, on records like those of `nox -s gate`."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from nvgbench.results.schema import RunRecord
from nvgbench.results.store import ResultStore
from nvgbench.types import Measurement
from tests.helpers.gate_records import HERE, evaluation, metric

ROOT = Path(__file__).parents[3]
PRESETS = ("nvg-tiny", "var-tiny", "ar-tiny")


def commands() -> dict[bool, list[str]]:
    """Arguments of the workflow's own calls of nvgbench, by whether they update the baseline."""
    lines = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    folded = re.sub(r">-\n\s+|(?<=\S)\n\s+(?=--)", " ", lines)
    found = re.findall(r"\.nox/gate/bin/nvgbench (gate .*)", folded)
    return {"--update" in words: words for words in map(shlex.split, found)}


def leave_behind(runs: Path, fd: float, parameters: float, cpu: str = "C") -> None:
    shutil.rmtree(runs, ignore_errors=True)
    provenance = {**HERE, "machine": {"cpu": cpu, "cores": 2}}
    scores = (metric("FD[classifier]", fd), metric("rFD[classifier]", 1.0), metric("PSNR", 20.0), metric("SSIM", 0.5))
    counted = (Measurement(name="parameters[tokenizer]", unit="", samples=(parameters,)),)
    for name in PRESETS:
        ResultStore(runs / name).append(
            evaluation(*scores, metric("codebook-use", 0.5, None), subject=name, provenance=provenance)
        )
        ResultStore(runs / "cost").append(RunRecord(kind="cost", subject=name, measurements=counted))


def test_pull_requests_are_compared_with_the_scores_of_main(
    app: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "reports").symlink_to(ROOT / "reports")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert set(commands()) == {True, False}

    def after(update: bool, fd: float, parameters: float = 1000.0, cpu: str = "C") -> tuple[int, str]:
        leave_behind(tmp_path / "runs" / "gate", fd, parameters, cpu)
        done = CliRunner().invoke(app, commands()[update])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    assert after(update=True, fd=10.0)[0] == 0
    # Costs are compared with the committed baseline, which a pull request may change.
    code, output = after(update=False, fd=10.0, parameters=2000.0)
    assert (code, output.splitlines()[-1]) == (0, "passed: 15 pass, 0 inconclusive, 0 fail")
    assert after(update=False, fd=20.0)[0] == 1
    code, output = after(update=False, fd=20.0, cpu="D")
    assert code == 0
    assert "no baseline for this environment (cpu C there, D here)" in output
