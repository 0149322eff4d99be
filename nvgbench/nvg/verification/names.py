"""Settings in fixtures of the first layout, which have them only in names and descriptions of arrays."""

from __future__ import annotations

import json
import re
from typing import Any

from nvgbench.parity.fixture import Fixture

_NUMBER = r"(\d+(?:\.\d+)?)"
# Pattern of an array's name and keys of settings: the outer group is the entry, the inner groups are the values.
_NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (r"(D\.step\.x0_hat_stage(\d+))", ("stage",)),
    (r"(E\.schedule_(\d+)_(\d+))", ("steps", "positions")),
    (rf"(E\.top_p_{_NUMBER}_{_NUMBER}_(\d+))", ("start", "end", "stages")),
    (r"(E\.struct_feat_stage(\d+))", ("stage",)),
    (rf"(E\.filter_top_p_{_NUMBER}_keep)", ("top_p",)),
    (r"(E\.filter_top_k_(\d+)_keep)", ("top_k",)),
    (rf"(E\.filter_k(\d+)_p{_NUMBER}_keep)", ("top_k", "top_p")),
    (r"(E\.split(\d+))\.\w+", ("stage",)),
)


_TEXTS = (("D.step.content", r"\bn=(\d+)", "D.step", "n"), ("E.rope_content", r"at stage (\d+)", "E.rope", "stage"))


def settings_in_name(fixture: Fixture, name: str) -> tuple[str, dict[str, Any]] | None:
    """The entry that the array ``name`` belongs to, and its settings; None if there are none."""
    if name.startswith("A.") and "flat" in name:
        return name.rpartition(".")[0], {"flat": True}
    for pattern, keys in _NAMES:
        if match := re.fullmatch(pattern, name):
            return match[1], dict(zip(keys, map(json.loads, match.groups()[1:]), strict=True))
    for own, pattern, entry, key in _TEXTS:
        if own == name and (match := re.search(pattern, str(fixture.facts.get("arrays", {}).get(name)))):
            return entry, {key: int(match[1])}
    return None
