"""Absolute paths shortened, so that records do not reveal folders of the machine that wrote them. No torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

_WHOLE = re.compile(r"(?P<head>(?:[\w.-]*[=:])*)(?P<path>/(?!/).*|[A-Za-z]:[\\/](?!/).*)", re.DOTALL)
"""A whole text that is a path, or an option or data source that ends in one: ``--out=/a/b``, ``data.source=npz:/a/b c.npz``."""
_WITHIN = re.compile(r"(?<![^\s\"'(\[<=,;:])(?P<path>/[^\s/\"',;:)\]>]+(?:/[^\s/\"',;:)\]>]*)+|[A-Za-z]:\\[^\s\"',;)\]>]+)")
"""A path of at least two parts among other words."""


def without_machine_paths(value: Any, base: Path | None = None) -> Any:
    """``value`` with every absolute path in its texts shortened, also inside mappings and sequences.

    A path at or below ``base`` (the working directory by default) becomes relative to it; any other is reduced to an ellipsis
    and its last part: ``…/weights.pth``. Relative paths, addresses (``https://…``) and whatever is not text stay unchanged.
    """
    base = Path.cwd() if base is None else base
    if isinstance(value, str):
        return _shorten(value, base)
    if isinstance(value, os.PathLike):
        return _shorten(os.fspath(value), base)
    if isinstance(value, Mapping):
        return {key: without_machine_paths(item, base) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [without_machine_paths(item, base) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def _shorten(text: str, base: Path) -> str:
    whole = _WHOLE.fullmatch(text)
    # "/ 2" is arithmetic, and a sentence may start with a path.
    if whole is not None and not re.search(r"\s/|:\s|^/\s", text):
        return whole["head"] + _short_path(whole["path"], base)
    return _WITHIN.sub(lambda found: _short_path(found["path"], base), text)


def _short_path(path: str, base: Path) -> str:
    if not path.startswith("/"):
        return f"…/{PureWindowsPath(path).name}"
    clean = Path(os.path.normpath(path))
    for folder in (base, base.resolve()):
        if clean.is_relative_to(folder) and folder != Path(folder.anchor):
            return str(clean.relative_to(folder))
    return f"…/{clean.name}"
