"""Checkpoints and averaged or plain weights by choice, in every command that uses a run; unfinished ones are named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import nvgbench as nb
from nvgbench.cli.app import build_app
from nvgbench.cli.options import as_options
from nvgbench.errors import InputError
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import ResultStore
from nvgbench.results.weights import weights_caution
from nvgbench.runs.folder import RunFolder
from tests.helpers.training_jobs import train


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``r``: eight steps, of which the checkpoints of 3, 6 and 8 are kept."""
    root = tmp_path_factory.mktemp("runs")
    train(root / "r", "var", "train.keep_last=3")
    return root


def call(runs: Path, *arguments: str) -> Result:
    return CliRunner().invoke(build_app(), [*arguments, "--runs", str(runs)], catch_exceptions=False)


def origin(path: Path) -> dict:
    with np.load(path) as archive:
        return json.loads(str(archive["provenance"]))["model"]


def test_sample_takes_the_step_and_the_weights_asked_for(runs: Path, tmp_path: Path) -> None:
    made = {}
    for name, choice in {
        "last": [],
        "early": ["--step", "3"],
        "plain": ["--weights-kind", "plain"],
        "both": ["--step", "6", "--weights-kind", "plain"],
    }.items():
        done = call(runs, "sample", "r", "-n", "2", "--out", str(tmp_path / f"{name}.npz"), "--device", "cpu", *choice)
        assert done.exit_code == 0, done.output
        made[name] = origin(tmp_path / f"{name}.npz")
        early = name in ("early", "both")
        assert (f"warning: r is unfinished, step {3 if name == 'early' else 6} of 8" in done.output) == early
    assert [made[name]["step"] for name in made] == [8, 3, 8, 6]
    assert [made[name]["finished"] for name in made] == [True, False, True, False]
    assert [made[name]["weights_kind"] for name in made] == ["averaged", "averaged", "plain", "plain"]
    assert len({made[name]["weights"] for name in made}) == 4
    final = RunFolder(runs / "r").provenance()
    assert made["last"]["weights"] == final["weights"]
    record = ResultStore(runs / "r").records()[-1]
    scored = RunRecord(kind="eval", subject="r", provenance={"model": made["plain"]})
    assert weights_caution(scored, record) == "", "the plain weights of the last step are final as well"
    scored = RunRecord(kind="eval", subject="r", provenance={"model": made["both"]})
    assert weights_caution(scored, record).startswith("unfinished, step 6 of 8")


def test_an_absent_step_is_answered_with_those_there_are(runs: Path) -> None:
    for command in (["sample", "r", "-n", "1"], ["profile", "r"], ["export", "r", "--out", "x.pth"], ["eval", "r", "-n", "9"]):
        with pytest.raises(InputError, match=r"no checkpoint of the generator at `step=5`; there are: 3, 6, 8"):
            call(runs, *command, "--step", "5", *(["--device", "cpu"] if command[0] != "export" else []))


def test_load_run_export_and_profile_take_them_too(runs: Path, tmp_path: Path) -> None:
    early = nb.load_run("r", runs=runs, device="cpu", step=3, weights="plain")
    last = nb.load_run("r", runs=runs, device="cpu")
    assert early.generator.spec.provenance["step"] == 3
    assert not np.array_equal(early.sample(2).images, last.sample(2).images)
    files = []
    for number, choice in enumerate(([], ["--step", "3"])):
        files.append(tmp_path / f"{number}.pth")
        done = call(runs, "export", "r", "--out", str(files[-1]), "--weights-kind", "plain", *choice)
        assert done.exit_code == 0, done.output
    assert files[0].read_bytes() != files[1].read_bytes()
    with pytest.raises(InputError, match="'var-tiny' is a preset"):
        call(runs, "profile", "var-tiny", "--step", "3", "--device", "cpu")


def test_the_library_s_argument_is_the_option() -> None:
    assert as_options("use `weights='plain'` or `step=3`") == "use --weights-kind plain or --step 3"
    assert as_options("`weights=file.pth`") == "--weights file.pth"
