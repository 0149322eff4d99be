"""The guides' own code, installed as a package outside nvgbench, does what the guides say."""

from __future__ import annotations

import itertools
from pathlib import Path

from tests.helpers.pages import ROOT, commands
from tests.helpers.plugins import install, run_commands
from tests.helpers.training_jobs import SMALL

GUIDES = ROOT / "docs" / "guides"


def test_add_a_model_family(tmp_path: Path) -> None:
    site = install(GUIDES / "code" / "add-a-model-family", tmp_path / "site")
    small = itertools.chain.from_iterable(("--set", setting) for setting in SMALL if not setting.startswith("model."))
    words = [[*command, *small] if command[0] == "train" else command for command in commands(GUIDES / "add-a-model-family.md")]
    printed = run_commands(words, site, tmp_path)
    assert "independent-tiny" in printed
    assert (tmp_path / "grid.png").exists()
