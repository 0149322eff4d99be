"""Messages of the library name arguments, not options of the command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import nvgbench

ROOT = Path(nvgbench.__file__).parent
NOT_YET = {"autoencoder", "nvg", "parity"}
"""Rooms whose messages still name options."""
OTHERS = {"--nproc-per-node", "--show-toplevel", "--porcelain", "--chart-grid", "--series-"}
"""Words that look like our options: torchrun's, git's, CSS variables."""


def _texts(path: Path) -> Iterator[ast.Constant]:
    """String constants, docstrings left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = None
    yield from (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def test_the_library_speaks_of_arguments() -> None:
    offenders = [
        f"{path.relative_to(ROOT)}:{text.lineno} {option}"
        for path in sorted(ROOT.rglob("*.py"))
        if path.relative_to(ROOT).parts[0] not in {"cli", *NOT_YET}
        for text in _texts(path)
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text.value)
        if option not in OTHERS
    ]
    assert offenders == []
