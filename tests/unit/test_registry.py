"""Names of built-in, installed and imported things."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nvgbench.errors import InputError
from nvgbench.registry import Registry
from tests.helpers.plugins import register


@pytest.fixture
def colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[Any]:
    """One built-in name, and a package outside that is installed with three entry points."""
    (tmp_path / "painting.py").write_text("RED = 'red'\nFALSE = 'not the built-in one'\n")
    (tmp_path / "unfinished.py").write_text("raise RuntimeError('two\\nlines')\n")
    entries = {"red": "painting:RED", "pi": "painting:FALSE", "broken": "unfinished:X", "absent": "painting:GREEN"}
    register(tmp_path, "painting", "1.0", {"test.colours": entries})
    registry: Registry[Any] = Registry("colour", "test.colours", {"pi": "math:pi"}, importable=True)
    assert registry.names() == ("pi",)
    monkeypatch.syspath_prepend(tmp_path)
    return registry


def test_names_are_found_in_all_three_ways(colours: Registry[Any]) -> None:
    assert colours.names() == ("pi", "absent", "broken", "red")
    assert colours.get("red") == "red"
    assert colours.get("painting:RED") == "red"
    assert 3 < colours.get("pi") < 4, "an installed package took a built-in name"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rde", r"no colour 'rde' \(did you mean 'red'\?\); known: pi, absent, broken, red"),
        ("broken", r"colour 'broken' cannot be imported \(RuntimeError: two lines\)$"),
        ("absent", r"colour 'absent' cannot be imported \(AttributeError: .*GREEN"),
        ("nowhere:X", r"cannot be imported \(ModuleNotFoundError: .*\); add its folder to PYTHONPATH"),
        ("painting:", r"colour 'painting:' cannot be imported"),
    ],
)
def test_what_cannot_be_found_is_one_line(colours: Registry[Any], name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        colours.get(name)


def test_importing_by_name_has_to_be_allowed() -> None:
    with pytest.raises(InputError, match="no colour 'math:pi'"):
        Registry("colour", "test.colours").get("math:pi")
