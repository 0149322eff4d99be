"""The guides' code, installed as packages outside nvgbench, does what the guides say."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.pages import ROOT, commands
from tests.helpers.plugins import install, run_steps
from tests.helpers.training_jobs import SMALL

GUIDES = ROOT / "docs" / "guides"


def steps(guide: Path) -> Iterator[list[str] | str]:
    """The guide's script and commands; trainings are made small."""
    script = GUIDES / "code" / guide.stem / "use.py"
    if script.exists():
        yield str(script)
    small = itertools.chain.from_iterable(("--set", setting) for setting in SMALL if not setting.startswith("model."))
    for words in commands(guide):
        yield [*words, *small] if words[0] in ("train", "ablate") and "--dry-run" not in words else words


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all guides' steps were run, in one process with all their packages installed; ``printed`` is their output."""
    root = tmp_path_factory.mktemp("guides")
    guides = sorted(GUIDES.glob("add-*.md"))
    for guide in guides:
        install(GUIDES / "code" / guide.stem, root / "site")
    printed = run_steps([step for guide in guides for step in steps(guide)], root / "site", root)
    (root / "printed").write_text(printed, encoding="utf-8")
    return root


def test_a_metric(folder: Path) -> None:
    printed = (folder / "printed").read_text()
    assert "mean-distance[features]" in printed
    assert "worse" in printed.splitlines()


def test_an_extractor(folder: Path) -> None:
    assert "FD[colours]" in (folder / "printed").read_text()
    assert list((folder / "runs" / "_features").glob("colours-*"))


def test_a_data_set(folder: Path) -> None:
    assert "striped images" in (folder / "printed").read_text()
    assert (folder / "stripes.png").exists()


def test_a_model_family(folder: Path) -> None:
    assert "independent-tiny" in (folder / "printed").read_text()
    assert (folder / "grid.png").exists()


def test_a_study(folder: Path) -> None:
    printed = (folder / "printed").read_text()
    assert re.search(r"^in all [\d.]+ .?FLOP and roughly", printed, re.MULTILINE)  # the plan's cost
    assert "decay 0.5: distance of the weights" in printed
    assert "over 2 pairs of trainings" in printed
    assert len(list((folder / "runs" / "studies").glob("ar-tiny-*-seed*"))) == 6
