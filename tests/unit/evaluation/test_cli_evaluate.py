"""``nvgbench eval`` from the outside: bad input is one line and exit code 2."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nvgbench.cli.app import build_app
from nvgbench.cli.evaluate import _show
from nvgbench.cli.options import as_options
from nvgbench.config.load import load_preset
from nvgbench.config.schema import RunConfig
from nvgbench.errors import InputError
from nvgbench.evaluation.evaluate import Evaluator
from nvgbench.results.schema import RunRecord
from nvgbench.runs.folder import RunFolder
from nvgbench.types import MetricValue

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)


def call(*arguments: str, root: Path) -> BaseException | None:
    return CliRunner().invoke(build_app(), ["eval", *arguments, "--runs", str(root), "--device", "cpu"]).exception


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "exactly one of"),
        (["--anchors"], "no run in"),
        (["a", "--all"], "exactly one of"),
        (["a", "--name", "x"], "--name goes with --samples"),
        (["absent"], "no run 'absent'"),
        (["--all"], "no run with a trained generator"),
        (["--samples", "absent.npz", "--reference", "shapes"], "absent.npz does not exist"),
        (["--samples", "{npz}"], "need a --reference"),
        (["--samples", "{npz}", "--reference", "shapse"], "data source"),
        (["--samples", "{npz}", "--reference", "{big}", "--extractor", "inception"], "32 px"),
        (["--samples", "{cut}", "--reference", "shapes"], "write or copy it again"),
        (["--samples", "{npz}", "--reference", "shapes", "--extractor", "classifer"], "did you mean 'classifier'"),
        (["a", "-n", "2"], "too few"),
        (["a", "--protocol", "amd"], "no protocol 'amd' (did you mean 'adm'?)"),
        (["a", "--protocol", "adm", "--extractor", "classifier"], "adm is defined for Inception features"),
        (["a", "--extractor-weights", "x"], "--extractor-weights x goes with inception, dinov2, clip"),
        (["a", "--extractor", "classifier", "--inception-weights", "x"], "goes with --extractor inception"),
        (["--samples", "{npz}", "--reference", "{npz}", "--protocol", "clean-fid", "--inception-weights", "no.pth"], "no.pth"),
        (["a", "--set", "top_k"], "not key=value"),
        (["a", "--fid-infinity", "--protocol", "adm"], "--fid-infinity goes with --protocol nvgbench, got --protocol adm"),
        (["a", "--fid-infinity", "--protocol", "clean-fid"], "leave one of them out"),
    ],
)
def test_bad_input(tmp_path: Path, arguments: list[str], message: str) -> None:
    files = {"npz": tmp_path / "x.npz", "big": tmp_path / "big.npz", "cut": tmp_path / "cut.npz"}
    np.savez(files["npz"], arr_0=PIXELS)
    np.savez(files["big"], arr_0=PIXELS.repeat(2, axis=1).repeat(2, axis=2))
    files["cut"].write_bytes(files["npz"].read_bytes()[:1000])
    error = call(*(argument.format(**files) for argument in arguments), root=tmp_path)
    assert isinstance(error, InputError), error
    assert message in as_options(str(error))
    assert "\n" not in str(error)


def test_brackets_and_a_missing_lpips_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    metrics = (MetricValue(name="FD[classifier]", value=3.0, n=40), MetricValue(name="PSNR", value=20.0, n=40))
    record = RunRecord(
        kind="eval",
        subject="m",
        metrics=metrics,
        tables={"scores over sampling seeds": [{"score": "FD[classifier]", "m seed 0": 3.0}]},
        provenance={"lpips": "perceptual loss: none, because the LPIPS loss needs vgg16-397923af.pth, or go without: x=none"},
    )
    _show(record)
    shown = capsys.readouterr().out
    assert shown.count("FD[classifier]") == 2
    assert "note: no LPIPS: the LPIPS loss needs vgg16-397923af.pth" in shown.replace("\n", " ")
    assert "go without" not in shown
    lpips = MetricValue(name="LPIPS", value=0.1, n=40)
    _show(dataclasses.replace(record, metrics=(*metrics, lpips)))
    assert "no LPIPS" not in capsys.readouterr().out


def test_anchors_alone_are_those_of_all_runs_trained_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for family in ("nvg", "ar"):
        RunFolder.create(tmp_path / family, load_preset(f"{family}-tiny"))
    anchored: list[str] = []

    def note(evaluator: Evaluator, configs: Iterable[RunConfig]) -> Iterator[RunRecord]:
        anchored.extend(config.name for config in configs)
        yield from ()

    monkeypatch.setattr(Evaluator, "anchors", note)
    assert call("--anchors", root=tmp_path) is None
    assert anchored == ["ar-tiny", "nvg-tiny"]
