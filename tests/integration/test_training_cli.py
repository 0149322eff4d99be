"""``nvgbench train`` as a user types it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from nvgbench.cli.options import as_options
from nvgbench.cli.train import parse_seeds
from nvgbench.cli.training_progress import training_progress
from nvgbench.errors import InputError
from nvgbench.results.grouping import replicate_of
from nvgbench.results.records import Records
from tests.helpers.training_jobs import EXTRA, SMALL

SETTINGS = [word for setting in (*SMALL, *EXTRA["ar"]) for word in ("--set", setting)]


def run(app: typer.Typer, *arguments: str):
    return CliRunner().invoke(app, ["train", *arguments])


def test_train_twice_over_seeds(app: typer.Typer, tmp_path: Path) -> None:
    done = run(
        app, "ar-tiny", "--runs", str(tmp_path), "--device", "cpu", "--seeds", "3,5", *SETTINGS, "--set", "train.steps=2"
    )
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ar-tiny-seed3", "ar-tiny-seed5"]
    configs = [(tmp_path / f"ar-tiny-seed{seed}" / "config.toml").read_text() for seed in (3, 5)]
    assert [re.search(r"\[train\][^\[]*\bseed = (\d)", text)[1] for text in configs] == ["3", "5"]
    assert "ar-tiny-seed5: generator 2/2" in done.output
    found = [replicate_of(record) for record in Records.read(tmp_path)]
    assert [(one.name, one.seed) for one in found] == [("ar-tiny", 3), ("ar-tiny", 5)]
    assert found[0].of == found[1].of


def test_dry_run_makes_nothing(app: typer.Typer, tmp_path: Path) -> None:
    done = run(app, "nvg-d16", "--dry-run", "--runs", str(tmp_path), "--data", "imagenet:/not/there", "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "333,637 steps" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nvg-tinny"], "did you mean 'nvg-tiny'"),
        (["ar-tiny", "--set", "train.stepz=3"], "did you mean 'steps'"),
        (["ar-tiny", "--data", "imagefolder:/not/there"], "/not/there"),
        (["ar-tiny", "--tokenizer", "nobody"], "no run 'nobody'"),
        (["ar-tiny", "--seeds", "1-4"], "0..4"),
        (["ar-tiny", "--device", "cuda:99"], "--device"),
        (["ar-tiny", "--continue-with", "train.generator.steps=3"], "to continue; without it, use --set"),
        (["ar-tiny", "--continue-with", "steps"], "is not section.key=value"),
        (["ar-tiny", "--rewind", "3"], "to continue; without it, use --set"),
    ],
)
def test_bad_input_leaves_no_folder(app: typer.Typer, tmp_path: Path, arguments: list[str], said: str) -> None:
    done = run(app, *arguments, "--runs", str(tmp_path))
    assert isinstance(done.exception, InputError)
    assert said in as_options(str(done.exception))
    assert "\n" not in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_and_continued(tmp_path: Path) -> None:
    """SIGINT ends with 130 and one line; the same command goes on."""
    code = (
        "import typer; from nvgbench.cli import train\n"
        "app = typer.Typer(); app.callback()(lambda: None); train.register(app); app()"
    )
    words = ["train", "ar-tiny", "--runs", str(tmp_path), "--device", "cpu", *SETTINGS]
    words = [sys.executable, "-c", code, *words, "--set", "train.checkpoint_every=1000", "--set", "train.steps=60"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 60
    while not (tmp_path / "ar-tiny" / "train.jsonl").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "ar-tiny: interrupted; run the same command to resume"
    assert list((tmp_path / "ar-tiny" / "checkpoints").glob("*/step-*"))


@pytest.mark.parametrize(
    ("text", "seeds"), [(None, []), ("3", [3]), ("0,2,1", [0, 2, 1]), ("0..4", [0, 1, 2, 3, 4]), ("7,1..2", [7, 1, 2])]
)
def test_seed_lists(text: str | None, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "1..", "4..0", "1,1", "1;2"])
def test_bad_seed_lists(text: str) -> None:
    with pytest.raises(InputError, match="--seeds"):
        parse_seeds(text)


def test_lines_for_logs(capsys: pytest.CaptureFixture[str]) -> None:
    with training_progress("name") as progress:
        progress({"message": "hello"})
        for done in range(4):
            progress(
                {"phase": "tokenizer", "done": done, "total": 3, "losses": {"a": 1.0, "a/b": 2.0}, "images_per_second": 9.0}
            )
        progress({"phase": "generator", "done": 0, "total": 5})
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["name: hello", "name: tokenizer 3/3, 9.0 images/s, a 1 b 2"]
