"""Ctrl-C in any command: exit code 130, one line that says how to go on, and the same command does not repeat what was done."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nvgbench import files
from nvgbench.cli.app import main
from nvgbench.sampling import job

SMALL = [
    word
    for setting in ("train.steps=1", "data.image_size=16", "data.train_images=20", "data.eval_images=20", "model.depth=1",
                    "tokenizer.base_channels=8", "train.tokenizer.batch_size=4", "train.generator.batch_size=4",
                    "sampling.flow_steps=1")
    for word in ("--set", setting)
]  # fmt: skip
SAID = "interrupted; run the same command to resume"


def call(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as done:
        main(list(arguments))
    return done.value.code


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    assert call("train", "nvg-tiny", "--runs", str(root), "--device", "cpu", *SMALL) == 0
    return root


def interrupt_at(number: int, wrapped: Callable[..., Any]) -> Callable[..., Any]:
    """``wrapped``, which gets a true SIGINT when it is called for the ``number``-th time."""
    calls = []

    def called(*arguments: Any, **options: Any) -> Any:
        calls.append(None)
        if len(calls) == number:
            signal.raise_signal(signal.SIGINT)
        return wrapped(*arguments, **options)

    return called


@pytest.fixture(autouse=True)
def python_answers_the_signal() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_sampling_goes_on(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sample", "nvg-tiny", "-n", "10", "--batch-size", "2", "--runs", str(runs), "--device", "cpu", "--out"]
    draw, drawn = job.draw, []

    def counted(generator: Any, indices: range, **options: Any) -> Any:
        drawn.append(indices)
        return draw(generator, indices, **options)

    with monkeypatch.context() as patch:
        patch.setattr(job, "draw", interrupt_at(3, draw))
        assert call(*command, str(tmp_path / "x.npz")) == 130
    assert capsys.readouterr().err.splitlines()[-1] == SAID
    assert not list(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(job, "draw", counted)
        assert call(*command, str(tmp_path / "x.npz")) == 0
    assert drawn == [range(start, start + 2) for start in (4, 6, 8)]
    for path in (runs / "nvg-tiny" / "samples").rglob("*.np[yz]"):
        path.unlink()
    assert call(*command, str(tmp_path / "whole.npz")) == 0
    assert np.array_equal(np.load(tmp_path / "x.npz")["arr_0"], np.load(tmp_path / "whole.npz")["arr_0"])


def test_unpacking_goes_on(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["sample", "nvg-tiny", "-n", "6", "--runs", str(runs), "--device", "cpu", "--out", str(tmp_path / "pngs")]
    with monkeypatch.context() as patch:
        patch.setattr("nvgbench.sampling.export.whole_file", interrupt_at(4, files.whole_file))
        assert call(*command) == 130
    first = {path: path.stat().st_mtime_ns for path in (tmp_path / "pngs").iterdir()}
    assert len(first) == 3
    assert call(*command) == 0
    assert len(list((tmp_path / "pngs").iterdir())) == 6
    assert all(path.stat().st_mtime_ns == when for path, when in first.items())


@pytest.mark.parametrize(
    ("arguments", "moment"),
    [
        (["presets"], "nvgbench.config.load.load_preset"),
        (["data", "show", "shapes"], "nvgbench.data.source.open_dataset"),
        (["import", "x.pth"], "nvgbench.weights.families.find_published"),
        (["export", "nvg-tiny", "--out", "x.ckpt"], "nvgbench.weights.exports.export_part"),
        (["verify", "nvg"], "nvgbench.parity.fixture.read_fixture"),
        (["lint", "x.npz"], "nvgbench.data.image_set.open_images"),
        (["eval", "nvg-tiny"], "nvgbench.evaluation.evaluate.Evaluator.records_of"),
        (["compare", "nvg-tiny", "nvg-tiny"], "nvgbench.results.lookup.scores_of"),
        (["profile", "nvg-tiny"], "nvgbench.profiling.record.profile_generator"),
        (["ablate", "clusters", "nvg-tiny"], "nvgbench.ablations.runner.run_study"),
        (["gate", "--baseline", "x.json"], "nvgbench.api.jobs.gate"),
        (["gate", "cost", "nvg-tiny"], "nvgbench.training.cost_record.cost_record"),
        (["gate", "selftest"], "nvgbench.gates.selftest.selftest"),
        (["report"], "nvgbench.api.jobs.report"),
    ],
)
def test_every_command_says_how_to_go_on(
    arguments: list[str], moment: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NVGBENCH_RUNS", str(runs))
    monkeypatch.setattr(moment, lambda *_, **__: signal.raise_signal(signal.SIGINT))
    before = {path: path.stat().st_size for path in runs.rglob("*")}
    assert call(*arguments) == 130
    assert capsys.readouterr().err.splitlines()[-1] == SAID
    assert {path: path.stat().st_size for path in runs.rglob("*")} == before
