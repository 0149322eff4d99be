"""Why a record lacks scores that it could have. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from nvgbench.results.paths import without_machine_paths
from nvgbench.results.schema import RunRecord

_PREFIX = "perceptual loss: none, because "
_WAY_OUT = ", or go without"
"""How the loader's note begins, which is about the training loss, and how its advice begins, which does not apply to scores."""


def missing_scores(record: RunRecord) -> dict[str, str]:
    """Name of each score that the record could have -> why it does not, as one line without paths."""
    noted = record.provenance.get("missing")
    found = {str(name): str(reason) for name, reason in noted.items()} if isinstance(noted, Mapping) else {}
    names = {metric.name for metric in record.metrics}
    note = record.provenance.get("lpips")
    if "LPIPS" not in found and "PSNR" in names and isinstance(note, str):  # older records have the note alone
        found["LPIPS"] = lpips_reason(note)
    return {name: str(without_machine_paths(reason)) for name, reason in found.items() if name not in names}


def lpips_reason(note: str) -> str:
    """The reason in the note with which LPIPS was not loaded."""
    return note.removeprefix(_PREFIX).partition(_WAY_OUT)[0]
