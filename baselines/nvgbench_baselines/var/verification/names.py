"""Settings in fixtures of the first layout, which have them only in names and descriptions of arrays."""

from __future__ import annotations

import json
import re
from typing import Any

from nvgbench.parity.fixture import Fixture

_ARGMAX = r"(ar(?:_cfg(\d+(?:\.\d+)?))?)_(?:tokens|fhat|img|next_maps|logits_cfg_rows)"


def settings_in_name(fixture: Fixture, name: str) -> tuple[str, dict[str, Any]] | None:
    """The entry that the array ``name`` belongs to, and its settings; None if there are none."""
    if match := re.fullmatch(_ARGMAX, name):
        return match[1], {"guidance": float(match[2])} if match[2] else {}
    if match := re.fullmatch(r"(rng(\d+)(_smooth)?)_(?:tokens|fhat)", name):
        text = str(fixture.facts.get("array_notes", {}).get(f"rng{match[2]}_*"))
        filters = {key: json.loads(value) for key, value in re.findall(r"\b(top_k|top_p)=([\d.]*\d)", text)}
        return match[1], {"seed": int(match[2]), "more_smooth": match[3] is not None, **filters}
    if match := re.fullmatch(r"(sched((?:_\d+)+))_(?:idx|fhat)", name):
        return match[1], {"scales": [int(side) for side in match[2][1:].split("_")]}
    if match := re.fullmatch(r"(\w*znorm\w*)_(?:idx_BL|fhat)", name):
        return match[1], {"distance": "cosine"}
    if match := re.fullmatch(r"loss_label_smooth_(\d*\.?\d+)", name):
        return name, {"smoothing": float(match[1])}
    if name == "lowvar_logits_rows":
        return name, {"factor": 0.01, "tensors": fixture.fact("lowvar_probe", "tensors_times_0.01")}
    return None
