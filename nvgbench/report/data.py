"""The page as data: one JSON document that stands in the page and beside it, and how an older one is read again."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from nvgbench.errors import InputError
from nvgbench.report.numbers import Entry, Number
from nvgbench.results.paths import without_machine_paths
from nvgbench.results.schema import RunRecord
from nvgbench.results.store import encode_record

FORMAT, VERSION = "nvgbench report", 1
ELEMENT = "nvgbench-report"
"""Id of the page's element that holds the document."""

_NUMBER: TypeAdapter[Number] = TypeAdapter(Number)


@dataclass(frozen=True)
class OldReport:
    """What is needed of an older report to compare with it: title, time of its newest record (ISO) and numbers."""

    title: str
    newest: str
    numbers: tuple[Entry, ...]


def record_trees(records: Sequence[RunRecord], *, tables: bool = True) -> list[dict[str, Any]]:
    """Records as JSON trees, without the folders of the machines that wrote them; without their long tables if asked."""
    found = [without_machine_paths(json.loads(encode_record(record))) for record in records]
    return found if tables else [{**tree, "tables": {}} for tree in found]


def for_page(document: Mapping[str, Any]) -> str:
    """The document as JSON that can stand inside a script element."""
    text = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def for_file(document: Mapping[str, Any]) -> str:
    """The document as JSON that people may look into."""
    return json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"


def read_report(path: Path) -> OldReport:
    """The numbers of a report: of its page or of the JSON beside it.

    Raises:
        InputError: no such file, not a report, a report without readable data, or one of a newer nvgbench.
    """
    if not path.is_file():
        raise InputError(f"no report at {path}; give the .html or .json file that 'nvgbench report' wrote")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text; give the .html or .json file that 'nvgbench report' wrote") from None
    if not text.lstrip().startswith("{"):
        found = re.search(rf'<script type="application/json" id="{ELEMENT}">(.*?)</script>', text, flags=re.DOTALL)
        if found is None:
            raise InputError(f"{path} holds no report data; give the .html or .json file that 'nvgbench report' wrote")
        text = found[1]
    try:
        document = json.loads(text)
        if document["format"] != FORMAT:
            raise InputError(f"{path} is of the format {document['format']!r}, expected {FORMAT!r}")
        if document["version"] > VERSION:
            raise InputError(f"{path} is a report of version {document['version']}, newer than {VERSION}; update nvgbench")
        numbers = tuple(_old_number(dict(row)) for row in document["numbers"])
        return OldReport(str(document["title"]), str(document["newest"]), numbers)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ValidationError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: damaged report data ({type(error).__name__}); write that report again") from None


def _old_number(row: dict[str, Any]) -> Entry:
    section, subject, shown = (str(row.pop(key)) for key in ("section", "subject", "shown"))
    return Entry(section=section, subject=subject, shown=shown, number=_NUMBER.validate_python(row))
