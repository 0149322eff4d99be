"""Provenance of trainings with several seeds."""

from __future__ import annotations

import hashlib
from typing import Any


def replicate(name: str, seed: int, configuration: str | None = None) -> dict[str, Any]:
    """The provenance entry of one training of the group ``name``; of equal ``configuration`` (the name, if None)."""
    of = hashlib.sha256((name if configuration is None else configuration).encode()).hexdigest()[:16]
    return {"replicate": {"of": of, "seed": seed, "name": name}}
