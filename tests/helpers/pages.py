"""The documentation's pages and the code blocks in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))
# A page beside a notebook of the same name is made from it.
PAGES = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if not page.with_suffix(".ipynb").exists()),
]

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """Number of the line before each fenced block in ``language``, and its text; included files are left out."""
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        if match[1] == language and "--8<--" not in match[2]:
            yield text.count("\n", 0, match.start(2)), match[2]


def commands(page: Path) -> Iterator[list[str]]:
    """Arguments of every ``nvgbench`` command in the shell blocks of a page."""
    for _, text in blocks(page, "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            for command in line.split("&&"):
                words = shlex.split(command, comments=True)
                if "nvgbench" in words:
                    yield words[words.index("nvgbench") + 1 :]
