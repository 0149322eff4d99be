"""Hashes of files are remembered as long as nothing about a file has changed; without the memory they are the same."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from nvgbench.data import file_hashes as module
from nvgbench.data.file_hashes import cache_folder, file_hashes
from nvgbench.data.source import open_dataset
from nvgbench.files import file_sha256

NAMES = ["a.png", "sub/b.png", "tab\t.png", os.fsdecode(b"\xff.png"), "line\nbreak.png"]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five files; every file counts as settled."""
    monkeypatch.setenv("NVGBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "_SETTLED_NS", -(10**18))
    (tmp_path / "root" / "sub").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        (tmp_path / "root" / name).write_bytes(bytes([number]) * 9)
    return tmp_path / "root"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read from here on."""
    names: list[str] = []

    def counted(path: str) -> str:
        names.append(os.path.basename(path))
        return file_sha256(path)

    monkeypatch.setattr(module, "file_sha256", counted)
    return names


EXPECTED = [hashlib.sha256(bytes([number]) * 9).hexdigest() for number in range(5)]


def test_files_are_read_once(root: Path, read: list[str]) -> None:
    assert file_hashes(root, NAMES) == EXPECTED
    assert len(read) == 5
    assert file_hashes(str(root), NAMES[::-1]) == EXPECTED[::-1]
    assert read[5:] == ["line\nbreak.png"], "a name that does not fit on a line is not remembered"


@pytest.mark.parametrize("keep_time", [False, True])
def test_a_replaced_file_of_equal_size_is_read_again(root: Path, read: list[str], keep_time: bool) -> None:
    file_hashes(root, NAMES[:2])
    before = (root / "a.png").stat()
    (root / "a.png").write_bytes(b"x" * 9)
    if keep_time:
        os.utime(root / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_hashes(root, NAMES[:2]) == [hashlib.sha256(b"x" * 9).hexdigest(), EXPECTED[1]]
    assert read[2:] == ["a.png"]


def test_what_has_just_changed_is_not_remembered(root: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SETTLED_NS", 10**18)
    for _ in range(2):
        file_hashes(root, NAMES)
    assert len(read) == 10
    assert not (root.parent / "cache").exists()


def test_an_interruption_keeps_what_was_read(root: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 2)
    with pytest.raises(FileNotFoundError):
        file_hashes(root, ["a.png", "sub/b.png", "gone.png"])
    read.clear()
    assert file_hashes(root, NAMES[:3]) == EXPECTED[:3]
    assert read == ["tab\t.png"]


@pytest.mark.parametrize("content", [b"", b"something else\n", b"nvgbench file hashes 1\nhalf a li", b"\xff\xfe"])
def test_a_damaged_memory_is_replaced(root: Path, read: list[str], content: bytes) -> None:
    file_hashes(root, NAMES)
    memory = next((root.parent / "cache" / "file-hashes").iterdir())
    memory.write_bytes(content)
    assert file_hashes(root, NAMES) == EXPECTED
    read.clear()
    assert file_hashes(root, NAMES[:4]) == EXPECTED[:4]
    assert read == []


def test_without_a_place_for_the_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root.parent / "file").touch()
    monkeypatch.setenv("NVGBENCH_CACHE", str(root.parent / "file"))
    assert file_hashes(root, NAMES) == EXPECTED
    monkeypatch.delenv("NVGBENCH_CACHE")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert cache_folder() is None
    assert file_hashes(root, NAMES) == EXPECTED


def test_the_fingerprint_of_a_folder_is_that_of_its_contents(root: Path) -> None:
    from PIL import Image

    data = root.parent / "data"
    for name in "ab":
        (data / name).mkdir(parents=True)
        for number in range(10):
            Image.new("RGB", (16, 16), (number, 0, 0)).save(data / name / f"{number}.bmp")

    def fingerprint(folder: Path) -> str:
        return open_dataset(f"imagefolder:{folder}", image_size=16, split="train").fingerprint

    before = fingerprint(data)
    shutil.copytree(data, root.parent / "moved")
    assert fingerprint(root.parent / "moved") == before
    # A BMP of the same size in pixels has the same size in bytes.
    path = data / open_dataset(f"imagefolder:{data}", image_size=16, split="train").paths[0]
    Image.new("RGB", (16, 16), (99, 0, 0)).save(path)
    assert fingerprint(data) != before
