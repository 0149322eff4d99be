"""The live server: what it shows, and that it only reads and only answers this machine."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from nvgbench.config.load import load_preset, to_toml
from nvgbench.errors import InputError
from nvgbench.runs.lock import LOCK
from nvgbench.serving.live import read_live, signature
from nvgbench.serving.server import LOOPBACK, LiveServer

METHODS = ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT")
OUTSIDE = "secret.txt"


def write_run(folder: Path, steps: int, *, training: bool = False) -> None:
    (folder / "pictures").mkdir(parents=True)
    (folder / "config.toml").write_text(to_toml(load_preset("nvg-tiny")), encoding="utf-8")
    rows = [
        {
            "phase": "tokenizer",
            "step": step,
            "losses": {"l1": 1 / step, "heldout/l1": 2 / step},
            "images_per_second": 120.0,
            "seconds": 1.5,
        }
        for step in range(1, steps + 1)
    ]
    lines = [json.dumps(row) + "\n" for row in rows]
    (folder / "train.jsonl").write_text("".join(lines) + '{"phase": "tok', encoding="utf-8")  # a line that is being written
    Image.new("RGB", (8, 8)).save(folder / "pictures" / "tokenizer-00000001.png")
    if training:
        (folder / LOCK).write_text("{}", encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "runs"
    write_run(root / "first", 3)
    write_run(root / "studies" / "b seed 0", 5, training=True)
    jobs = [
        {"name": "b, seed 0", "folder": "b seed 0"},
        {"name": "a, seed 0", "folder": "../first"},
        {"name": "c", "folder": "c"},
    ]
    (root / "studies" / "queue-levels.json").write_text(json.dumps({"study": "levels", "jobs": jobs}), encoding="utf-8")
    (tmp_path / OUTSIDE).write_text("secret", encoding="utf-8")
    (root / "first" / "pictures" / "link.png").symlink_to(tmp_path / OUTSIDE)
    return root


def no_report(out: Path) -> Path:
    raise InputError("no records")


@pytest.fixture
def server(root: Path) -> Iterator[LiveServer]:
    with LiveServer(root, no_report) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: LiveServer, path: str, method: str = "GET", host: str | None = None) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection(LOOPBACK, server.server_port, timeout=30)
    connection.request(method, path, headers={} if host is None else {"Host": host})
    response = connection.getresponse()
    found = response.status, response.read(), dict(response.getheaders())
    connection.close()
    return found


def test_trainings_and_queues_are_read(root: Path) -> None:
    live = read_live(root)
    assert [(run.name, run.state, run.step) for run in live.runs] == [
        ("studies/b seed 0", "training", 5),
        ("first", "stopped", 3),
    ]
    assert live.runs[1].curves["tokenizer"]["l1"] == [(1.0, 1.0), (2.0, 0.5), (3.0, 1 / 3)]
    (queue,) = live.queues
    assert queue.jobs == [("b, seed 0", "training"), ("a, seed 0", "stopped"), ("c", "waiting")]


def test_the_signature_follows_the_log(root: Path) -> None:
    before = signature(root)
    assert signature(root) == before
    Image.new("RGB", (8, 8)).save(root / "first" / "pictures" / "tokenizer-00000002.png")
    assert signature(root) != before


def test_the_live_page(server: LiveServer) -> None:
    status, page, headers = ask(server, "/")
    text = page.decode()
    assert status == 200
    assert "tokenizer, step 5, 1.50\u202fs, 120 images/s" in text
    assert text.count('<svg class="chart"') == 4
    assert "Study levels" in text
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert ask(server, "/signature")[1].decode() in text
    status, picture, headers = ask(server, "/pictures/studies/b%20seed%200/pictures/tokenizer-00000001.png")
    assert (status, headers["Content-Type"], picture[:4]) == (200, "image/png", b"\x89PNG")
    assert ask(server, "/", "HEAD")[:2] == (200, b"")
    assert ask(server, "/report")[0] == 404


def test_the_report_is_made_again_when_records_change(root: Path) -> None:
    made: list[Path] = []

    def render(out: Path) -> Path:
        made.append(out)
        out.write_text(f"report {len(made)}", encoding="utf-8")
        return out

    with LiveServer(root, render) as server:
        assert server.answer("/report") == server.answer("/report") == ("text/html; charset=utf-8", b"report 1")
        (root / "first" / "records.jsonl").write_text("", encoding="utf-8")
        assert server.answer("/report") == ("text/html; charset=utf-8", b"report 2")
    assert not made[0].exists()


@pytest.mark.parametrize("method", METHODS)
def test_it_only_reads(server: LiveServer, method: str) -> None:
    status, _, headers = ask(server, "/", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path",
    [
        f"/pictures/../{OUTSIDE}",
        f"/pictures/..%2f{OUTSIDE}",
        f"/pictures/first/pictures/../../../{OUTSIDE}",
        f"/pictures/%2e%2e/{OUTSIDE}",
        "/pictures//etc/passwd",
        "/pictures/first/config.toml",
        "/pictures/first/pictures/link.png",
        "/first/config.toml",
        "/../config.toml",
        "/etc/passwd",
    ],
)
def test_no_other_file_can_be_asked_for(server: LiveServer, path: str) -> None:
    status, content, _ = ask(server, path)
    assert status == 404
    assert b"secret" not in content


def test_only_requests_to_this_machine_are_answered(server: LiveServer) -> None:
    port = server.server_port
    assert server.server_address[0] == LOOPBACK
    for host in (f"127.0.0.1:{port}", f"localhost:{port}"):
        assert ask(server, "/signature", host=host)[0] == 200
    for host in ("example.org", f"example.org:{port}", "localhost", f"127.0.0.1.example.org:{port}", ""):
        assert ask(server, "/signature", host=host)[0] == 421


def test_the_command_refuses_what_it_cannot_serve(app: typer.Typer, root: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke(app, ["report", "--serve", "--runs", str(tmp_path / "none")])
    assert "is not a folder" in str(run.exception)
    with LiveServer(root, no_report) as taken:
        run = CliRunner().invoke(app, ["report", "--serve", "--runs", str(root), "--port", str(taken.server_port)])
    assert "choose another" in str(run.exception)
