"""Commands as jobs, with submitit's own executor for one machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from nvgbench.cli.app import main
from nvgbench.cli.cluster import Command, _without_options, submit
from nvgbench.errors import InputError
from nvgbench.results.store import ResultStore
from nvgbench.runs.folder import RunFolder
from tests.helpers.training_jobs import EXTRA, SMALL, train


def _line(runs: Path, *more: str) -> list[str]:
    changed = [argument for setting in (*SMALL, *EXTRA["ar"]) for argument in ("--set", setting)]
    return ["train", "ar-tiny", "--runs", str(runs), "--device", "cpu", *changed, *more]


def _wait(condition: Callable[[], object], what: str) -> None:
    for _ in range(1200):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail(f"two minutes without {what}")


def test_the_options_of_a_job_are_not_passed_on() -> None:
    line = ["train", "x", "--executor", "slurm", "--job=nodes=2", "--job", "gpus_per_node=8", "--set", "a.b=1"]
    assert _without_options(line) == ["train", "x", "--set", "a.b=1"]


def test_the_help_names_the_extra(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    assert "nvgbench[cluster]" in capsys.readouterr().out


def test_without_submitit_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"`executor=slurm` needs submitit; install nvgbench\[cluster\]"):
        submit(["train", "ar-tiny"], "slurm", [], tmp_path)


def test_scores_are_submitted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    submitted: list[tuple] = []
    monkeypatch.setattr("nvgbench.cli.evaluate.submit", lambda *arguments: submitted.append(arguments))
    line = ["eval", "some-run", "--executor", "slurm", "--job", "nodes=2"]
    with pytest.raises(SystemExit) as end:
        main(line)
    assert end.value.code == 0
    assert submitted == [(tuple(line), "slurm", ["nodes=2"], Path("runs"))]


def test_studies_are_submitted_after_their_input_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    submitted: list[tuple] = []
    monkeypatch.setattr("nvgbench.cli.ablate.submit", lambda *given, distributed: submitted.append((*given, distributed)))
    line = ["ablate", "components", "--budget", "quick", "--runs", str(tmp_path), "--device", "cuda", "--executor", "slurm"]
    for more, code in (("--job=gpus_per_node=1", 0), ("--variant=unknown", 2), ("--dry-run", 0)):
        with pytest.raises(SystemExit) as end:
            main([*line, more, *(["--device", "cpu"] if more == "--dry-run" else [])])
        assert end.value.code == code
    assert submitted == [((*line, "--job=gpus_per_node=1"), "slurm", ["gpus_per_node=1"], tmp_path, False)]
    assert not list(tmp_path.iterdir())


@pytest.fixture
def submitit(monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return pytest.importorskip("submitit")


def test_a_preempted_training_of_two_tasks_is_requeued_and_ends(submitit: SimpleNamespace, tmp_path: Path) -> None:
    """SIGUSR2 in the middle: a checkpoint, the same job again, and the whole training at the end."""
    executor = submitit.AutoExecutor(folder=tmp_path / "jobs", cluster="local")
    executor.update_parameters(tasks_per_node=2, timeout_min=30)
    line = _line(tmp_path, "--set", "train.steps=60", "--set", "train.checkpoint_every=1000", "--set", "train.log_every=1")
    job = executor.submit(Command(tuple(line)))
    run = tmp_path / "ar-tiny"
    _wait((run / "train.jsonl").exists, "a line of the log")
    os.kill(json.loads((run / ".lock").read_text())["pid"], signal.SIGUSR2)
    _wait(job.done, "the end of the job")
    assert job.results() == [None, None]
    output = "".join(path.read_text() for path in (tmp_path / "jobs").glob("*_log.*"))
    assert "Requeued job" in output
    assert "resumes at step" in output
    found = RunFolder(run)
    assert found.is_finished("generator")
    rows = [json.loads(text) for text in (run / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["phase"] == "generator"] == list(range(1, 61))


def test_the_command_line_submits_itself(submitit: SimpleNamespace, tmp_path: Path) -> None:
    line = [*_line(tmp_path, "--set", "train.steps=2"), "--executor", "local", "--job", "timeout_min=30"]
    done = subprocess.run([sys.executable, "-m", "nvgbench", *line], capture_output=True, text=True, check=True, timeout=120)
    assert "submitted; it writes its output to" in done.stdout
    _wait(lambda: list((tmp_path / "_jobs").glob("*_result.pkl")), "a result")
    assert RunFolder(tmp_path / "ar-tiny").is_finished("generator")


def test_a_machine_without_the_cluster_is_reported(submitit: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`executor=slurm`: .*srun"):
        submit(["train", "ar-tiny"], "slurm", [], tmp_path)


def test_parameters_that_submitit_does_not_know_are_refused(submitit: SimpleNamespace, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"`executor=local`: .*gpu_count"):
        submit(["train", "ar-tiny"], "local", ["gpu_count=8"], tmp_path)


def test_a_study_runs_as_one_task(submitit: SimpleNamespace, tmp_path: Path) -> None:
    """Submitted with the local executor: the job probes a run, and adds the record."""
    with pytest.raises(InputError, match=r"`tasks_per_node=2`: ablate runs as one task"):
        submit(["ablate", "seeds"], "local", ["tasks_per_node=2"], tmp_path, distributed=False)
    train(tmp_path / "one", "nvg", "train.steps=1", phases=("tokenizer",))
    line = ["ablate", "alignment", "one", "-n", "4", "--runs", str(tmp_path), "--device", "cpu"]
    line += ["--executor", "local", "--job", "timeout_min=30"]
    with pytest.raises(SystemExit) as end:
        main(line)
    assert end.value.code == 0
    _wait(lambda: list((tmp_path / "_jobs").glob("*_result.pkl")), "a result")
    (record,) = [one for one in ResultStore(tmp_path).records() if one.kind == "ablation"]
    assert record.provenance["images"] == 4
