"""Files are written whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors import SafetensorError

from nvgbench.files import append_line, remove_leftovers, whole_file, write_text


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


@pytest.mark.parametrize(
    ("raised", "number"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), errno.ENOSPC),
        (OSError("4096 requested and 0 written"), errno.EIO),  # numpy
        (RuntimeError("unexpected pos 576 vs 534"), errno.ENOSPC),  # torch
        (SafetensorError("I/O error: No space left on device (os error 28)"), errno.ENOSPC),
    ],
)
def test_a_full_disk_is_told_of_the_file_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, number: int
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=0))
    path = tmp_path / "x.npz"
    with pytest.raises(OSError, match="x") as caught, whole_file(path):
        raise raised
    assert (caught.value.errno, caught.value.filename) == (number, str(path))
    assert list(tmp_path.iterdir()) == []


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "x[1].npz"
    for name in (".x[1].npz.abc.npz", ".x[1].npz.partial", ".x1.npz.abc.npz", "x[1].npz"):
        (tmp_path / name).touch()
    remove_leftovers(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [".x1.npz.abc.npz", "x[1].npz"]
    remove_leftovers(tmp_path / "absent" / "x.npz")


def test_another_files_trouble_stays_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, whole_file(tmp_path / "x.npz"):
        np.load(tmp_path / "source.npz")
    assert caught.value.filename == str(tmp_path / "source.npz")


def test_the_asked_file_is_named_where_none_can_be_made(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    for path, said in (("folder", "Is a directory"), ("file/x", "File exists")):
        with pytest.raises(OSError, match=said) as caught:
            write_text(tmp_path / path, "x")
        assert caught.value.filename == str(tmp_path / path.removesuffix("/x"))


def test_a_line_that_does_not_fit_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    append_line(path, "one")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as caught:
        append_line(path, "two")
    assert caught.value.filename == str(path)
    assert path.read_text() == "one\n"
