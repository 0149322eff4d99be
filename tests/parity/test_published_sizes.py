"""Sizes in the papers, from ``nvgbench train PRESET --dry-run``, which allocates nothing."""

from __future__ import annotations

import re

import pytest

from nvgbench.cli.app import main

# Millions, or billions with one decimal, as printed: NVG's content and structure network, VAR's transformer.
PRINTED = {
    "nvg-d16": {"content": "255M", "structure": "64M"},
    "nvg-d20": {"content": "497M", "structure": "125M"},
    "nvg-d24": {"content": "856M", "structure": "215M"},
    "var-d16": {"transformer": "310M"},
    "var-d20": {"transformer": "600M"},
    "var-d24": {"transformer": "1.0B"},
    "var-d30": {"transformer": "2.0B"},
}
# VAR's paper gives d20 to two figures: 600,917,136 rounds to 601 million.
STEP = {"600M": 10_000_000}


@pytest.mark.parametrize("preset", PRINTED)
def test_parameters_to_the_rounding_printed(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["train", preset, "--dry-run", "--device", "cpu"])
    assert done.value.code == 0
    shown = capsys.readouterr().out
    for part, printed in PRINTED[preset].items():
        match = re.search(rf"^ +{part} +([\d,]+)$", shown, re.MULTILINE)
        assert match, shown
        count = int(match[1].replace(",", ""))
        step = STEP.get(printed, 1_000_000 if printed.endswith("M") else 100_000_000)
        unit = 1_000_000 if printed.endswith("M") else 1_000_000_000
        assert round(count / step) * step == float(printed[:-1]) * unit, count
