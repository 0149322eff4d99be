"""Files are written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from nvgbench.files import append_line, whole_file, write_text


def test_a_failure_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), whole_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_success_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "x.txt"
    write_text(path, "old")
    write_text(path, "nëw")
    assert path.read_text(encoding="utf-8") == "nëw"


def test_a_line_cut_short_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_line(path, "one")
    with path.open("ab") as handle:
        handle.write(b"tw")
    append_line(path, "three")
    assert path.read_text().splitlines() == ["one", "tw", "three"]
