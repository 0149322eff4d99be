"""The page as data: one JSON document, embedded in the page and written beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from nvgbench.results.paths import without_machine_paths
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import encode_record

FORMAT, VERSION = "nvgbench report", 1


def record_trees(records: Sequence[RunRecord], *, tables: bool = True) -> list[dict[str, Any]]:
    """Records as JSON trees, without the paths of the machines that wrote them; without their tables if ``tables`` is False."""
    found = [without_machine_paths(json.loads(encode_record(record))) for record in records]
    return found if tables else [{**tree, "tables": {}} for tree in found]


def for_page(document: Mapping[str, Any] | Sequence[Any]) -> str:
    """The document as JSON that is safe inside a script element."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def for_file(document: Mapping[str, Any]) -> str:
    """The document as indented JSON."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"
