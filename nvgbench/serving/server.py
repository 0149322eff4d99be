"""A small server for the live page: this machine only, read only."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from nvgbench.errors import InputError
from nvgbench.serving.live import read_live, signature
from nvgbench.serving.pages import live_page

LOOPBACK = "127.0.0.1"
_HTML, _TEXT, _PNG = "text/html; charset=utf-8", "text/plain; charset=utf-8", "image/png"
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class LiveServer(ThreadingHTTPServer):
    """Serves ``/`` (the live page), ``/report``, ``/signature`` and the runs' pictures below ``/pictures/``.

    Args:
        root: the folder of runs.
        render: writes the report to a path; raises `InputError` if there is nothing to report on.
        port: on the loopback interface; 0 for any free one.

    Raises:
        OSError: the port is taken.
    """

    daemon_threads = True

    def __init__(self, root: Path, render: Callable[[Path], Path], port: int = 0) -> None:
        self._root = root
        self._render = render
        self._drawing = threading.Lock()  # charts are drawn with global settings
        self._pages: dict[str, tuple[str, bytes]] = {}
        super().__init__((LOOPBACK, port), _Handler)

    @property
    def address(self) -> str:
        """URL of the live page."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def knows_host(self, host: str | None) -> bool:
        """Whether a request was meant for this server; others come from pages that let their name point here."""
        return host in {f"{name}:{self.server_port}" for name in (LOOPBACK, "localhost")}

    def answer(self, path: str) -> tuple[str, bytes] | None:
        """Media type and content of a path; None if there is nothing."""
        if path == "/signature":
            return _TEXT, signature(self._root).encode()
        if path in ("/", "/report"):
            return self._page(path)
        if path.startswith("/pictures/"):
            return self._picture(unquote(path.removeprefix("/pictures/")))
        return None

    def _page(self, path: str) -> tuple[str, bytes] | None:
        """A page, made again if the folder of runs has changed since."""
        with self._drawing:
            now = signature(self._root)
            made, content = self._pages.get(path, ("", b""))
            if made != now:
                try:
                    content = self._report() if path == "/report" else self._live(now)
                except InputError:
                    return None
                self._pages[path] = now, content
            return _HTML, content

    def _live(self, now: str) -> bytes:
        has_records = any(True for _ in self._root.rglob("records.jsonl"))
        return live_page(read_live(self._root), now, report=has_records).encode()

    def _report(self) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            return self._render(Path(folder) / "index.html").read_bytes()

    def _picture(self, name: str) -> tuple[str, bytes] | None:
        """One of the pictures that the live page shows, by its exact name: no other file can be asked for."""
        if name not in {picture for run in read_live(self._root).runs for picture in run.pictures}:
            return None
        path = (self._root / name).resolve()
        if not path.is_relative_to(self._root.resolve()):
            return None
        try:
            return _PNG, path.read_bytes()
        except OSError:
            return None


class _Handler(BaseHTTPRequestHandler):
    server: LiveServer
    server_version, sys_version = "nvgbench", ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        self._reply(with_content=True)

    def do_HEAD(self) -> None:
        self._reply(with_content=False)

    def _refuse(self) -> None:
        self.close_connection = True  # the body of the request is not read
        self._send(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"this server only reads\n", extra={"Allow": "GET, HEAD"})

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = _refuse

    def _reply(self, *, with_content: bool) -> None:
        if not self.server.knows_host(self.headers.get("Host")):
            self._send(HTTPStatus.MISDIRECTED_REQUEST, _TEXT, b"this server answers to localhost only\n", with_content)
            return
        found = self.server.answer(urlsplit(self.path).path)
        if found is None:
            self._send(HTTPStatus.NOT_FOUND, _TEXT, b"there is nothing here\n", with_content)
        else:
            self._send(HTTPStatus.OK, *found, with_content)

    def _send(
        self, status: HTTPStatus, kind: str, content: bytes, with_content: bool = True, extra: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, **(extra or {}), "Content-Type": kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_content:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged."""
