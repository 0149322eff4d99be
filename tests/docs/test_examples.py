"""Every example in the documentation runs: in docstrings, on pages, in the notebook."""

from __future__ import annotations

import doctest
import importlib
import json
from pathlib import Path

import pytest

from nvgbench.api import jobs
from tests.helpers.pages import NOTEBOOKS, PAGES, ROOT, blocks, page_name

SOURCES = [
    path.relative_to(root)
    for root in (ROOT, ROOT / "baselines")
    for package in root.glob("nvgbench*")
    for path in sorted(package.rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]
PYTHON_PAGES = [page for page in PAGES if any(blocks(page, "python"))]


@pytest.mark.parametrize("source", SOURCES, ids=str)
def test_docstrings(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(".".join(source.with_suffix("").parts).removesuffix(".__init__"))
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0, "the failures are in the captured output"


@pytest.mark.parametrize("page", PYTHON_PAGES, ids=page_name)
def test_pages(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Python blocks of a page run from top to bottom, in one namespace."""
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "__main__"}
    for line, code in blocks(page, "python"):
        exec(compile("\n" * line + code, page, "exec"), namespace)  # the newlines make tracebacks name the page's line


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=page_name)
def test_notebooks(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The committed notebook was run from top to bottom without an error, and its cells still run, with a shorter training."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    train, short = jobs.train, {"train.steps": 2, "data.train_images": 64}
    monkeypatch.setattr(jobs, "train", lambda preset, set, **options: train(preset, set=set | short, **options))
    cells = [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]
    namespace: dict[str, object] = {"__name__": "__main__"}
    for cell in cells:
        exec(compile("".join(cell["source"]), notebook, "exec"), namespace)
