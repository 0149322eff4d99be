"""One writer per run."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvgbench.errors import InputError
from nvgbench.runs.lock import LOCK, locked

OWNER = (
    "import sys, time; from pathlib import Path; from nvgbench.runs.lock import locked\n"
    "with locked(Path(sys.argv[1])):\n"
    "    print('locked', flush=True); time.sleep(60)"
)


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen]:
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_writer_is_refused_in_one_line(tmp_path: Path, owner: subprocess.Popen) -> None:
    said = rf"is being trained by process {owner.pid} since .*another `name=`"
    with pytest.raises(InputError, match=said) as caught, locked(tmp_path / "run"):
        pass
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run" / LOCK).exists(), "the owner's lock was removed"


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path: Path, owner: subprocess.Popen) -> None:
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    with locked(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / LOCK).read_text())["pid"] == os.getpid()
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").iterdir())


def test_a_lock_of_another_host_is_refused_and_the_advice_helps(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text(json.dumps({"pid": 7, "host": "elsewhere", "started": "2026-01-01 00:00:00"}))
    said = r"process 7 on elsewhere since .*if that process is gone, remove \S+"
    with pytest.raises(InputError, match=said) as caught, locked(tmp_path):
        pass
    Path(re.search(r"remove (\S+)$", str(caught.value))[1]).unlink()
    with locked(tmp_path):
        pass


def slurm(monkeypatch: pytest.MonkeyPatch, job: str, restarts: str | None, cluster: str = "c") -> None:
    monkeypatch.setenv("SLURM_JOB_ID", job)
    monkeypatch.setenv("SLURM_CLUSTER_NAME", cluster)
    if restarts is None:
        monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    else:
        monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)


def left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock of the first start of Slurm job 12, which was preempted on another host."""
    slurm(monkeypatch, "12", None)
    with monkeypatch.context() as there:
        there.setattr("socket.gethostname", lambda: "elsewhere")
        with locked(tmp_path):
            text = (tmp_path / LOCK).read_text()
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / LOCK).write_text(text)


def test_a_requeued_job_takes_over_its_lock_from_another_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left_behind(tmp_path, monkeypatch)
    slurm(monkeypatch, "12", "1")
    with locked(tmp_path):
        owner = json.loads((tmp_path / LOCK).read_text())
    assert (owner["pid"], owner["slurm_job"], owner["slurm_restarts"]) == (os.getpid(), "12", 1)
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize(
    ("job", "restarts", "cluster"),
    [("12", None, "c"), ("12", "0", "c"), ("12", "twice", "c"), ("13", "1", "c"), ("12", "1", "d"), ("", "1", "c")],
)
def test_another_job_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, restarts: str | None, cluster: str
) -> None:
    left_behind(tmp_path, monkeypatch)
    slurm(monkeypatch, job, restarts, cluster)
    with pytest.raises(InputError, match="on elsewhere since"), locked(tmp_path):
        pass


def test_a_requeued_job_waits_for_an_owner_that_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: subprocess.Popen
) -> None:
    """Where locks reach other hosts, the earlier start still holds its lock."""
    path = tmp_path / "run" / LOCK
    path.write_text(json.dumps({"pid": 7, "host": "elsewhere", "slurm_job": "12", "slurm_cluster": "c", "slurm_restarts": 0}))
    slurm(monkeypatch, "12", "1")
    with pytest.raises(InputError, match="process 7 on elsewhere"), locked(tmp_path / "run"):
        pass


def test_without_locks_of_the_file_system_the_process_id_decides(
    tmp_path: Path, owner: subprocess.Popen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with pytest.raises(InputError, match=f"process {owner.pid}"), locked(tmp_path / "run"):
        pass
    owner.kill()
    owner.wait()
    with locked(tmp_path / "run"):
        pass


def test_one_process_locks_a_run_once(tmp_path: Path) -> None:
    again = pytest.raises(InputError, match="already training")
    with locked(tmp_path / "a"), locked(tmp_path / "b"), again, locked(tmp_path / "a"):
        pass
    with locked(tmp_path / "a"):
        pass


def test_a_folder_is_left_only_if_something_was_written(tmp_path: Path) -> None:
    with locked(tmp_path / "runs" / "empty"):
        pass
    with locked(tmp_path / "full"):
        (tmp_path / "full" / "file").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["file"]
