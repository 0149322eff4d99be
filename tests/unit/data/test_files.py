"""Which files of a folder are images, links included, and the count of what is left out."""

from __future__ import annotations

import os
from pathlib import Path

from nvgbench.data.files import left_out_remarks, list_images


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def said(folder: Path) -> str:
    remarks = left_out_remarks(list_images(folder).left_out, "the folder")
    assert len(remarks) <= 1
    return remarks[0].text if remarks else ""


def test_sorted_by_parts_and_without_remark(tmp_path: Path) -> None:
    names = ["a-b/0.png", "a/1.JPG", "a/b/2.jfif", "a.png", "b.tiff"]
    touch(*(tmp_path / name for name in names))
    assert list_images(tmp_path).paths == ("a/1.JPG", "a/b/2.jfif", "a-b/0.png", "a.png", "b.tiff")
    assert said(tmp_path) == ""


def test_linked_folders_and_files_are_followed(tmp_path: Path) -> None:
    touch(tmp_path / "store" / "deep" / "1.png", tmp_path / "store" / "2.png", tmp_path / "set" / "0.png")
    (tmp_path / "set" / "more").symlink_to("../store")
    (tmp_path / "set" / "3.png").symlink_to("../store/2.png")
    assert list_images(tmp_path / "set").paths == ("0.png", "3.png", "more/2.png", "more/deep/1.png")
    assert said(tmp_path / "set") == ""
    (tmp_path / "whole").symlink_to("set")
    assert len(list_images(tmp_path / "whole").paths) == 4


def test_loops_end_and_no_folder_counts_twice(tmp_path: Path) -> None:
    touch(tmp_path / "set" / "a" / "0.png", tmp_path / "set" / "z" / "1.png", tmp_path / "beside.png")
    for name, target in (("a/up", ".."), ("a/top", "../.."), ("a/self", "."), ("b", "z"), ("y", "z")):
        (tmp_path / "set" / name).symlink_to(target)
    assert list_images(tmp_path / "set").paths == ("a/0.png", "z/1.png")
    assert said(tmp_path / "set") == "left out of the folder: 5 linked folders (already in the set)"
    assert list_images(tmp_path / "set" / "a").paths == ("0.png",), "a class must not take in the others by a link upwards"


def test_a_link_upwards_is_no_folder_of_its_own(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "0.png")
    (tmp_path / "up").symlink_to(".")
    assert list_images(tmp_path / "up").paths == ()


def test_many_links_do_not_multiply(tmp_path: Path) -> None:
    """Twenty storeys with two links each to the next: a million paths, one image."""
    for storey in range(20):
        (tmp_path / str(storey)).mkdir()
        for name in "ab":
            (tmp_path / str(storey) / name).symlink_to(f"../{storey + 1}")
    touch(tmp_path / "20" / "x.png")
    assert len(list_images(tmp_path / "0").paths) == 1


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    touch(
        *(tmp_path / name for name in ("0.png", ".1.png", "._2.png", "notes.txt", "more.txt", "x.json", "README", ".gitignore"))
    )
    touch(tmp_path / ".ipynb_checkpoints" / "0.png", tmp_path / "__MACOSX" / "0.png", tmp_path / "a" / ".b" / "0.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "away").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    assert list_images(tmp_path).paths == ("0.png",)
    assert said(tmp_path) == (
        "left out of the folder: 2 dangling links, 3 hidden folders (.b, .ipynb_checkpoints, __MACOSX), 2 hidden images, "
        "4 other files (.json, .txt, no suffix), 1 special file"
    )


def test_a_hidden_folder_above_does_not_hide_the_set(tmp_path: Path) -> None:
    touch(tmp_path / ".cache" / "set" / "0.png")
    assert list_images(tmp_path / ".cache" / "set").paths == ("0.png",)


def test_links_in_a_circle_are_left_out(tmp_path: Path) -> None:
    """They lead nowhere, as dangling links do; the other images are read."""
    touch(tmp_path / "a.png")
    for name, target in {"b.png": "c.png", "c.png": "b.png", "self": "self"}.items():
        (tmp_path / name).symlink_to(target)
    (tmp_path / "d.png").symlink_to("e.png")
    (tmp_path / "e.png").symlink_to("a.png")
    listing = list_images(tmp_path)
    assert listing.paths == ("a.png", "d.png", "e.png")
    assert listing.left_out == {("link to itself", ""): 3}
