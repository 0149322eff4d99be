"""Pages in a headless browser: what a script measures in them, at given widths, in light or dark."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

_WRAPPER = """<!doctype html><meta charset="utf-8"><pre id="measured"></pre>
{frames}
<script>
const found = {{}};
addEventListener("message", ({{ data }}) => {{
  found[data.key] = data.found;
  document.getElementById("measured").textContent = JSON.stringify(found);
}});
</script>"""
_PROBE = """
<script>
addEventListener("load", async () => {{
  let found;
  try {{ found = await (async () => {{ {script} }})(); }} catch (error) {{ found = `error: ${{error.stack}}`; }}
  parent.postMessage({{ key: window.name, found }}, "*");
}});
</script>"""


def measure(
    page: Path, script: str, tmp_path: Path, *, widths: Sequence[int] = (1300,), query: str = "", dark: bool = False
) -> Any:
    """What ``script``, the body of an async function, returns in the page: width in pixels -> JSON value.

    One browser holds a frame of each width.
    """
    probed = tmp_path / "probed.html"
    probed.write_text(page.read_text(encoding="utf-8") + _PROBE.format(script=script), encoding="utf-8")
    address = html.escape(probed.as_uri() + query)
    frames = "\n".join(f'<iframe name="{width}" width="{width}" height="900" src="{address}"></iframe>' for width in widths)
    wrapper = tmp_path / "wrapper.html"
    wrapper.write_text(_WRAPPER.format(frames=frames), encoding="utf-8")
    scheme = ["--blink-settings=preferredColorScheme=0"] if dark else []
    dump = run_browser(["--dump-dom", "--virtual-time-budget=8000", *scheme, wrapper.as_uri()], tmp_path)
    measured = re.search(r'<pre id="measured">(.*?)</pre>', dump, re.DOTALL)
    assert measured is not None, dump[:2000]
    found = {int(width): value for width, value in json.loads(html.unescape(measured[1])).items()}
    assert set(found) == set(widths)
    failed = [value for value in found.values() if isinstance(value, str) and value.startswith("error: ")]
    assert not failed, failed
    return found


def run_browser(arguments: Sequence[str], tmp_path: Path) -> str:
    """Standard output of a headless browser that reaches no other machine."""
    assert BROWSER is not None
    command = [
        BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--no-first-run", "--proxy-server=127.0.0.1:9", f"--user-data-dir={tmp_path / 'profile'}", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
