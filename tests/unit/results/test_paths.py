"""Records contain no absolute path of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvgbench.results import provenance
from nvgbench.results.paths import without_machine_paths

BASE = Path("/home/someone/project")


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("/home/someone/project/runs/x", "runs/x"),
        ("/home/someone/project", "."),
        ("/home/someone/project/../secret/x.npz", "…/x.npz"),
        ("/home/someone/else/weights.pth", "…/weights.pth"),
        ("/home/someone/with space/a b.npz", "…/a b.npz"),
        ("--out=/mnt/disk/x.html", "--out=…/x.html"),
        ("data.source=imagefolder:/mnt/disk/cifar10", "data.source=imagefolder:…/cifar10"),
        ("npz:/home/someone/project/data/x.npz", "npz:data/x.npz"),
        (r"C:\Users\someone\x.npz", "…/x.npz"),
        (r"npz:C:\Users\someone\x.npz", "npz:…/x.npz"),
        ("needs vgg16.pth in /home/me/.cache/torch/hub: not there", "needs vgg16.pth in …/hub: not there"),
        ("'/mnt/disk/x.npz' is missing", "'…/x.npz' is missing"),
        # Whatever is not an absolute path stays unchanged.
        ("runs/nvg-tiny", "runs/nvg-tiny"),
        ("../runs", "../runs"),
        ("imagefolder:/mnt/disk/cifar10 (eval): the first 6", "imagefolder:…/cifar10 (eval): the first 6"),
        ("https://example.org/a/b.pth", "https://example.org/a/b.pth"),
        ("put the file from https://example.org/a/b.pth there", "put the file from https://example.org/a/b.pth there"),
        ("x / 127.5 - 1; and/or 3 images/s", "x / 127.5 - 1; and/or 3 images/s"),
        ("nvgbench/1", "nvgbench/1"),
    ],
)
def test_paths_are_shortened(given_text: str, expected: str) -> None:
    assert without_machine_paths(given_text, BASE) == expected


def test_inside_mappings_and_sequences() -> None:
    value = {"reference": {"path": Path("/mnt/a/b.npz"), "n": 3}, "files": ["/mnt/a", ("/mnt/c/d", None, 1.5, True)]}
    expected = {"reference": {"path": "…/b.npz", "n": 3}, "files": ["…/a", ("…/d", None, 1.5, True)]}
    assert without_machine_paths(value, BASE) == expected


@given(st.lists(st.text("abz .-_", min_size=1).filter(lambda part: part.strip(" .") == part), min_size=2, max_size=5))
def test_no_folder_outside_the_working_directory_is_revealed(parts: list[str]) -> None:
    told = without_machine_paths("/outside/" + "/".join(parts), BASE)
    assert told == f"…/{parts[-1]}"


def test_the_command_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["/usr/local/bin/nvgbench", "eval", "--all", "--runs", str(tmp_path / "my runs"), "--samples", "/mnt/a/x.npz"]
    assert provenance.command_line(arguments) == "nvgbench eval --all --runs 'my runs' --samples '…/x.npz'"
    assert provenance.command_line(["/lib/nvgbench/__main__.py", "presets"]) == "nvgbench presets"
    assert provenance.command_line([]) == ""
    found = provenance.collect(reference={"name": str(tmp_path / "x.npz")}, gpu="none", weights="/mnt/a/w.pth")
    assert (found["reference"], found["weights"]) == ({"name": "x.npz"}, "…/w.pth")
    assert str(tmp_path) not in str(found)
