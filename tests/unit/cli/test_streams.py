"""Standard streams that cannot take what is written, and exceptions that nobody expected."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from nvgbench.cli import app as cli
from nvgbench.cli.app import build_app
from nvgbench.cli.streams import lasting_streams
from tests.helpers.streams import unread_pipe


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_characters_beyond_the_encoding(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "x", "w", encoding=encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "__stdout__", stream)
        with lasting_streams():
            print("[\u22121, ∞] ≥ 2", json.dumps({"name": "b\udcffd 犬 \U0001f600"}, ensure_ascii=False))
        monkeypatch.undo()
    said, _, listed = (tmp_path / "x").read_text(encoding=encoding).partition(" {")
    assert said == "[-1, inf] >= 2"
    assert json.loads("{" + listed) == {"name": "b\udcffd 犬 \U0001f600"}


def test_utf_8_stays() -> None:
    with lasting_streams():
        assert sys.stdout is not sys.__stdout__  # pytest's own capture is left alone
    code = "import sys; from nvgbench.cli.streams import lasting_streams\nwith lasting_streams(): print('∞ ±')"
    done = subprocess.run([sys.executable, "-X", "utf8", "-c", code], capture_output=True, check=True)
    assert done.stdout.decode() == "∞ ±\n"


def test_a_closed_pipe_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    with unread_pipe("utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "__stdout__", stream)
        with lasting_streams():
            for number in range(3):
                print("x" * 100_000, flush=True)
                done.append(number)
        monkeypatch.undo()
    assert len(done) == 3


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        (
            ">/dev/full",
            2,
            "error: standard output: No space left on device; make room there, or write elsewhere (--runs",
        ),
        ("2>/dev/full", 0, ""),
        (">&-", 0, ""),
        (">&- 2>&- <&-", 0, ""),
        ("| true", 0, ""),
    ],
)
def test_the_shell_redirects(redirected: str, code: int, said: str) -> None:
    command = f"'{sys.executable}' -m nvgbench --version {redirected}"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == bool(said)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (ZeroDivisionError("two\nlines"), "fault of the program (ZeroDivisionError: two lines; test_streams.py, line "),
        (RuntimeError("shapes differ"), "fault of the program (RuntimeError: shapes differ"),
        (AssertionError(), "fault of the program (AssertionError:"),
        (RecursionError("deep"), "fault of the program (RecursionError: deep"),
    ],
)
def test_an_unexpected_exception_ends_with_70(
    fault: Exception, said: str, debug: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not with 1, which is a regression for the gate and an unreadable image for ``data check``."""

    def register(app: typer.Typer) -> None:
        @app.command()
        def fail() -> None:
            raise fault

        @app.command()
        def other() -> None:
            pass

    monkeypatch.setattr(cli.groups, "register", register)
    monkeypatch.setattr(cli, "build_app", build_app)  # the real one; that of the tests builds all commands once
    monkeypatch.setenv("NVGBENCH_DEBUG", "1" if debug else "")
    with pytest.raises(SystemExit) as done:
        cli.main(["fail"])
    assert done.value.code == 70
    shown = capsys.readouterr().err.splitlines()
    assert said in shown[-1]
    assert shown[-1].startswith("error: ")
    assert ("Traceback" in shown[0]) == debug
    assert debug or len(shown) == 1
