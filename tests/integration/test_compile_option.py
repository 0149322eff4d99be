"""``--compile`` and ``--no-compile`` of the commands that sample or train."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from nvgbench.cli.options import as_options
from nvgbench.errors import InputError
from nvgbench.results.records import Records
from nvgbench.runs.folder import RunFolder
from tests.helpers.training_jobs import EXTRA, SMALL, train

SETTINGS = [word for setting in (*SMALL, *EXTRA["ar"]) for word in ("--set", setting)]
SHORT = ("--batch-sizes", "1", "--repeats", "1", "--warmup", "1")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    train(root / "r", "ar")
    return root


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvgbench.device.missing_for_compilation", lambda device_type: "a C++ compiler")


def commands(runs: Path) -> dict[str, list[str]]:
    common = ["--device", "cpu", "--runs", str(runs)]
    return {
        "sample": ["sample", "r", "-n", "2", *common],
        "eval": ["eval", "r", "-n", "32", *common],
        "profile": ["profile", "r", *SHORT, *common],
        "train": ["train", "ar-tiny", "--name", "t", *SETTINGS, *common],
    }


@pytest.mark.parametrize("command", ["sample", "eval", "profile", "train"])
def test_without_a_compiler_a_request_is_one_line(app: typer.Typer, runs: Path, no_compiler: None, command: str) -> None:
    error = CliRunner().invoke(app, [*commands(runs)[command], "--compile"]).exception
    assert isinstance(error, InputError), error
    expected = "torch.compile needs a C++ compiler; install it, or leave compilation out by --no-compile"
    assert as_options(str(error)) == expected


def test_no_compile_works_without_a_compiler(app: typer.Typer, runs: Path, no_compiler: None) -> None:
    asked = commands(runs)
    for command in ("sample", "profile"):
        done = CliRunner().invoke(app, [*asked[command], "--no-compile"])
        assert done.exit_code == 0, done.output
    record = Records.read(runs).select(kind="profile", subject="r")[-1]
    assert record.provenance["settings"]["compile"] is False
    done = CliRunner().invoke(app, [*asked["train"], "--no-compile", "--phase", "tokenizer"])
    assert done.exit_code == 0, done.output
    assert RunFolder(runs / "t").config.train.compile is False
