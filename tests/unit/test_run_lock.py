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
