"""The pages cover the package and can be reached."""

from __future__ import annotations

import nvgbench
from tests.helpers.pages import NOTEBOOKS, PAGES, ROOT

DOCS = ROOT / "docs"


def test_every_room_has_an_api_page() -> None:
    rooms = {path.parent.name for path in (ROOT / "nvgbench").glob("*/__init__.py")} - {"api", "cli"}  # index.md, --help
    assert rooms - {page.stem for page in (DOCS / "api").glob("*.md")} == set()


def test_every_public_name_is_on_the_api_page() -> None:
    page = (DOCS / "api" / "index.md").read_text(encoding="utf-8")
    assert [name for name in nvgbench.__all__ if f"::: nvgbench.{name}\n" not in page] == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:")[2]
    pages = [page.relative_to(DOCS).with_suffix(".md") for page in [*PAGES, *NOTEBOOKS] if page.is_relative_to(DOCS)]
    assert [str(page) for page in pages if f": {page}\n" not in navigation] == []
